"""What a labeller may change: its own node, and there what an install marks nodes with."""

from __future__ import annotations

from typing import Any

from gpuyard.gpus.resources import GPU_RESOURCE
from gpuyard.kube.wellknown import ANNOTATION_LABELS_SET, ANNOTATION_TAINT_SET, LABEL_HARDWARE_TYPE
from gpuyard.tenancy.names import LABELLER
from gpuyard.tenancy.node_marks import REPORTS
from gpuyard.tenancy.policies.admission_policy import admission_policy, cel_list, resource_rule


def labeller_policy() -> list[dict[str, Any]]:
    """A labeller changes its own node only, and there only what an install marks nodes with."""
    allowed = f'(n.startsWith("nvidia.com/") || n.startsWith("gpuyard.io/") || n == "{LABEL_HARDWARE_TYPE}")'
    annotations = cel_list((ANNOTATION_LABELS_SET, ANNOTATION_TAINT_SET, *REPORTS))
    others = f'.filter(t, t.key != "{GPU_RESOURCE}")'
    node = 'request.userInfo.?extra[?"authentication.kubernetes.io/node-name"].orValue([""])'
    rules = [
        (f"object.metadata.name in {node}", "a labeller changes its own node only"),
        (_unchanged("labels", allowed), "a labeller changes labels of GPUs only"),
        (_unchanged("annotations", f"n in {annotations}"), "a labeller changes its own annotations only"),
        (
            f"object.spec.?taints.orValue([]){others} == oldObject.spec.?taints.orValue([]){others}",
            f"a labeller changes the taint {GPU_RESOURCE} only",
        ),
        (
            "object.spec.?unschedulable.orValue(false) == oldObject.spec.?unschedulable.orValue(false)",
            "a labeller doesn't cordon nodes",
        ),
    ]
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [resource_rule("", ["nodes"], ["UPDATE"])]},
        "matchConditions": [
            {
                "name": "the-labeller",
                "expression": f'request.userInfo.username == "system:serviceaccount:@namespace@:{LABELLER}"',
            }
        ],
        "validations": [
            {"expression": expression, "message": f"gpuyard: {message}"} for expression, message in rules
        ],
    }
    return admission_policy(LABELLER, spec, {})


def _unchanged(field: str, allowed: str) -> str:
    new, old = (f"{state}.metadata.?{field}.orValue({{}})" for state in ("object", "oldObject"))
    return (
        f"{new}.all(n, {allowed} || (n in {old} && {old}[n] == {new}[n]))"
        f" && {old}.all(n, {allowed} || n in {new})"
    )
