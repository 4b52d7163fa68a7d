"""Each labeller changes its own node only, and there only what an install marks nodes with, status included.

RBAC can't bind an account to the node of its pod. The token of a pod's account says which node that is
(`authentication.kubernetes.io/node-name`, on by default since Kubernetes 1.30), and so admission can.
Source: KEP-4193, "Improve service account tokens".
"""

from __future__ import annotations

from typing import Any

from gpuyard.kube.wellknown import ANNOTATION_LABELS_SET, ANNOTATION_TAINT_SET, LABEL_HARDWARE_TYPE
from gpuyard.tenancy.names import LABELLER
from gpuyard.tenancy.node_marks import CONDITIONS, GPU_LABEL_PATTERN, REPORTS, TAINT
from gpuyard.tenancy.policies.admission_policy import admission_policy, cel_list, resource_rule

#: In whatever namespace: kustomize may have moved the install, and doesn't look into expressions.
ACCOUNT = f'request.userInfo.username.matches("^system:serviceaccount:[^:]+:{LABELLER}$")'
#: A list with the node of the pod that a token is bound to.
NODE_OF_TOKEN = 'request.userInfo.?extra[?"authentication.kubernetes.io/node-name"].orValue([""])'
#: Whoever sets the last two has the garbage collector delete the node, or nobody.
_METADATA = {"finalizers": "[]", "ownerReferences": "[]"}
#: Of a node's status what decides anything, beside its conditions.
_STATUS = ("capacity", "allocatable", "addresses", "nodeInfo", "daemonEndpoints", "images")
#: All of a node's spec but its taints.
_SPEC = {
    "unschedulable": "false",
    "providerID": '""',
    "podCIDR": '""',
    "podCIDRs": "[]",
    "externalID": '""',
}


def labeller_policy() -> list[dict[str, Any]]:
    """The policy, and its binding."""
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [resource_rule("", ["nodes", "nodes/status"], ["UPDATE"])]},
        "matchConditions": [{"name": "the-labeller", "expression": ACCOUNT}],
        "variables": [
            {"name": "labels", "expression": f'r"^({GPU_LABEL_PATTERN}|{LABEL_HARDWARE_TYPE})$"'},
            {
                "name": "annotations",
                "expression": f'r"^({"|".join((ANNOTATION_LABELS_SET, ANNOTATION_TAINT_SET, *REPORTS))})$"',
            },
            {"name": "conditions", "expression": cel_list(CONDITIONS)},
        ],
        "validations": [
            {"expression": expression, "message": f"gpuyard: {message}"} for expression, message in _rules()
        ],
    }
    return admission_policy(LABELLER, spec, {})


def _rules() -> list[tuple[str, str]]:
    ours = f't.key == "{TAINT["key"]}" && t.effect == "{TAINT["effect"]}"'
    taints = f"spec.?taints.orValue([]).filter(t, !({ours}))"
    conditions = "status.?conditions.orValue([]).filter(c, !(c.type in variables.conditions))"
    return [
        (f"object.metadata.name in {NODE_OF_TOKEN}", "a labeller changes its own node only"),
        (_foreign_stays("labels"), "a labeller changes labels that describe GPUs only"),
        (_foreign_stays("annotations"), "a labeller changes its own annotations only"),
        (
            f"object.{taints} == oldObject.{taints}",
            f"a labeller changes the taint {TAINT['key']}:{TAINT['effect']} only",
        ),
        (
            " && ".join(_same(f"spec.?{field}", empty) for field, empty in _SPEC.items()),
            "a labeller changes nothing of a node's spec but its taint: it doesn't cordon",
        ),
        (
            f"object.{conditions} == oldObject.{conditions}",
            f"a labeller changes the conditions {', '.join(CONDITIONS)} only",
        ),
        (
            # The API server's types of a node leave out its amounts.
            " && ".join(
                f"dyn(object.status).?{field} == dyn(oldObject.status).?{field}" for field in _STATUS
            ),
            "a labeller changes nothing of a node's status but its conditions",
        ),
        (
            " && ".join(_same(f"metadata.?{field}", empty) for field, empty in _METADATA.items()),
            "a labeller sets neither owners nor finalizers",
        ),
    ]


def _foreign_stays(field: str) -> str:
    """All entries of a map but those that the variable's pattern is of are as they were."""
    pattern = f"variables.{field}"
    new, old = (f"{state}.metadata.?{field}.orValue({{}})" for state in ("object", "oldObject"))
    return (
        f"{new}.all(n, n.matches({pattern}) || (n in {old} && {old}[n] == {new}[n]))"
        f" && {old}.all(n, n.matches({pattern}) || n in {new})"
    )


def _same(path: str, empty: str) -> str:
    return f"object.{path}.orValue({empty}) == oldObject.{path}.orValue({empty})"
