"""A labeller writes one annotation of its own node's pods, and changes nothing else of them.

RBAC gives the right to patch pods, and with it their images: whoever has a labeller's token could run what he
likes anywhere. So it is given only together with this policy, where the API server has such policies.
"""

from __future__ import annotations

from typing import Any

from gpuyard.kube.wellknown import ANNOTATION_GPU_USE
from gpuyard.tenancy.names import LABELLER, LABELLER_PODS, LABELS
from gpuyard.tenancy.policies.admission_policy import admission_policy, resource_rule
from gpuyard.tenancy.policies.labeller import ACCOUNT, NODE_OF_TOKEN

_RBAC = "rbac.authorization.k8s.io"
#: All of a pod's metadata that a request can change, and what stands for none.
_METADATA = {"labels": "{}", "finalizers": "[]", "ownerReferences": "[]", "generateName": '""'}


def pod_use_policy() -> list[dict[str, Any]]:
    """The policy, its binding, and the right that it bounds; in this order."""
    spec = {
        "failurePolicy": "Fail",
        # Of subresources, too: another role may give more than ours, and it isn't for a labeller.
        "matchConstraints": {"resourceRules": [resource_rule("", ["pods", "pods/*"], ["*"])]},
        "matchConditions": [{"name": "the-labeller", "expression": ACCOUNT}],
        "validations": [
            {"expression": expression, "message": f"gpuyard: {message}"} for expression, message in _rules()
        ],
    }
    metadata = {"name": LABELLER_PODS, "labels": dict(LABELS)}
    return [
        *admission_policy(LABELLER_PODS, spec, {}),
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}],
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {**metadata, "labels": dict(LABELS)},
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": LABELLER_PODS},
            "subjects": [{"kind": "ServiceAccount", "name": LABELLER, "namespace": "@namespace@"}],
        },
    ]


def _rules() -> list[tuple[str, str]]:
    new, old = (f"{state}.metadata.?annotations.orValue({{}})" for state in ("object", "oldObject"))
    ours = f'n == "{ANNOTATION_GPU_USE}"'
    is_patch = 'request.operation == "UPDATE" && request.?subResource.orValue("") == ""'
    return [
        (is_patch, "a labeller does nothing with pods but patch an annotation"),
        (
            f'!({is_patch}) || oldObject.spec.?nodeName.orValue("") in {NODE_OF_TOKEN}',
            "a labeller changes pods of its own node only",
        ),
        (
            f"!({is_patch}) || ({new}.all(n, {ours} || (n in {old} && {old}[n] == {new}[n]))"
            f" && {old}.all(n, {ours} || n in {new}))",
            f"a labeller changes the annotation {ANNOTATION_GPU_USE} of pods only",
        ),
        (
            f"!({is_patch}) || object.spec == oldObject.spec",
            "a labeller changes nothing of a pod's spec",
        ),
        (
            f"!({is_patch}) || ("
            + " && ".join(
                f"object.metadata.?{field}.orValue({empty}) == oldObject.metadata.?{field}.orValue({empty})"
                for field, empty in _METADATA.items()
            )
            + ")",
            "a labeller changes neither labels, owners nor finalizers of a pod",
        ),
    ]
