"""Admission without a webhook: what pods of tenants may not do, and that a labeller keeps to its node.

Rules in CEL. Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
(GA in Kubernetes 1.30).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gpuyard.gpus.resources import GPU_RESOURCE, MIG_PREFIX
from gpuyard.kube.wellknown import (
    ANNOTATION_LABELS_SET,
    ANNOTATION_TAINT_SET,
    LABEL_HARDWARE_TYPE,
    LABEL_TENANT,
)
from gpuyard.tenancy.names import LABELLER, LABELS, RUNTIME_CLASS, TENANTS
from gpuyard.tenancy.node_marks import REPORTS

_API = "admissionregistration.k8s.io/v1"
#: They choose devices past the device plugin. "void" chooses none.
_VARIABLES = (
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_MIG_CONFIG_DEVICES",
    "NVIDIA_MIG_MONITOR_DEVICES",
    "NVIDIA_IMEX_CHANNELS",
)
_RUNTIME_CLASSES = ("nvidia", "nvidia-cdi", "nvidia-legacy", RUNTIME_CLASS)
_CAPABILITIES = (
    "ALL",
    "SYS_ADMIN",
    "SYS_PTRACE",
    "SYS_MODULE",
    "SYS_RAWIO",
    "MKNOD",
    "DAC_READ_SEARCH",
)


def tenant_policy() -> list[dict[str, Any]]:
    """The policy for pods of namespaces that carry the tenant label, and its binding."""
    pods = [
        _rule("", ["pods"], ["CREATE", "UPDATE"]),
        _rule("", ["pods/ephemeralcontainers"], ["UPDATE"]),
    ]
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": pods},
        # They report static pods; a namespace can't be closed to them.
        "matchConditions": [
            {"name": "not-a-kubelet", "expression": '!request.userInfo.username.startsWith("system:node:")'}
        ],
        "variables": _tenant_variables(),
        "validations": [
            {"expression": expression, "message": f"gpuyard: {message}"}
            for expression, message in _tenant_rules()
        ],
    }
    selector = {"matchExpressions": [{"key": LABEL_TENANT, "operator": "Exists"}]}
    return _policy(TENANTS, spec, {"namespaceSelector": selector})


def _tenant_variables() -> list[dict[str, str]]:
    added = (
        "variables.creates"
        " ? object.spec.containers + object.spec.?initContainers.orValue([])"
        ' : request.?subResource.orValue("") == "ephemeralcontainers"'
        " ? object.spec.?ephemeralContainers.orValue([]) : []"
    )
    return [
        {"name": "creates", "expression": 'request.operation == "CREATE"'},
        # A pod that was there before its namespace became a tenant's must still be able to change and to go:
        # of an update only what it adds is looked at.
        {"name": "containers", "expression": added},
        {
            "name": "before",
            "expression": "variables.creates ? {} : oldObject.metadata.?annotations.orValue({})",
        },
    ]


def _tenant_rules() -> list[tuple[str, str]]:
    each = "variables.containers.all(c, "
    spec = "!variables.creates || "
    gpu = (
        f'c.?resources.?limits.orValue({{}}).exists(n, (n == "{GPU_RESOURCE}"'
        f' || n.startsWith("{MIG_PREFIX}"))'
        ' && string(c.resources.limits[n]) != "0")'
    )
    void = (
        'c.?env.orValue([]).exists(e, e.name == "NVIDIA_VISIBLE_DEVICES" && e.?value.orValue("") == "void")'
    )
    return [
        (
            f"{each}c.?env.orValue([]).all(e, !(e.name in {_list(_VARIABLES)})"
            ' || e.?value.orValue("") == "void"))',
            "NVIDIA_VISIBLE_DEVICES and its like choose GPUs past the scheduler: ask for them under "
            f"limits, {GPU_RESOURCE}; only the value void is allowed",
        ),
        (
            f'{spec}!(object.spec.?runtimeClassName.orValue("") in {_list(_RUNTIME_CLASSES)})'
            f" || {each}{gpu} || {void})",
            "this runtimeClassName gives containers without a GPU limit every GPU: leave it out, or set "
            "NVIDIA_VISIBLE_DEVICES to void in those containers",
        ),
        (
            f"{spec}object.spec.?volumes.orValue([]).all(v, !has(v.hostPath))",
            "hostPath volumes reach the node's devices and files: use another kind of volume",
        ),
        (
            f'{each}c.?volumeMounts.orValue([]).all(m, !m.mountPath.contains("nvidia-container-devices")))',
            "mounts under /var/run/nvidia-container-devices choose GPUs past the scheduler: leave them out",
        ),
        (
            f"{each}!c.?securityContext.?privileged.orValue(false)"
            " && c.?securityContext.?capabilities.?add.orValue([]).all(n,"
            f' !(n.upperAscii().replace("CAP_", "") in {_list(_CAPABILITIES)})))',
            f"privileged containers and the capabilities {', '.join(_CAPABILITIES)} reach every GPU",
        ),
        (
            f"{spec}!(object.spec.?hostIPC.orValue(false) || object.spec.?hostPID.orValue(false)"
            " || object.spec.?hostNetwork.orValue(false))",
            "hostIPC, hostPID and hostNetwork reach other tenants' processes: leave them out",
        ),
        (
            'object.metadata.?annotations.orValue({}).all(n, !(n.startsWith("cdi.k8s.io/")'
            ' || n.startsWith("nvidia.cdi.k8s.io/")) || n in variables.before)',
            "annotations under cdi.k8s.io/ and nvidia.cdi.k8s.io/ choose GPUs past the scheduler",
        ),
        (
            f'{spec}object.spec.?nodeName.orValue("") == ""',
            "spec.nodeName goes round scheduler and quota: use a nodeSelector",
        ),
    ]


def labeller_policy() -> list[dict[str, Any]]:
    """A labeller changes its own node only, and there only what an install marks nodes with."""
    allowed = f'(n.startsWith("nvidia.com/") || n.startsWith("gpuyard.io/") || n == "{LABEL_HARDWARE_TYPE}")'
    annotations = _list((ANNOTATION_LABELS_SET, ANNOTATION_TAINT_SET, *REPORTS))
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
        "matchConstraints": {"resourceRules": [_rule("", ["nodes"], ["UPDATE"])]},
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
    return _policy(LABELLER, spec, {})


def _unchanged(field: str, allowed: str) -> str:
    new, old = (f"{state}.metadata.?{field}.orValue({{}})" for state in ("object", "oldObject"))
    return (
        f"{new}.all(n, {allowed} || (n in {old} && {old}[n] == {new}[n]))"
        f" && {old}.all(n, {allowed} || n in {new})"
    )


def _policy(name: str, spec: dict[str, Any], match: dict[str, Any]) -> list[dict[str, Any]]:
    metadata = {"name": name, "labels": dict(LABELS)}
    binding: dict[str, Any] = {"policyName": name, "validationActions": ["Deny"]}
    if match:
        binding["matchResources"] = match
    return [
        {"apiVersion": _API, "kind": "ValidatingAdmissionPolicy", "metadata": metadata, "spec": spec},
        {
            "apiVersion": _API,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {**metadata, "labels": dict(LABELS)},
            "spec": binding,
        },
    ]


def _rule(group: str, resources: list[str], operations: list[str]) -> dict[str, Any]:
    return {"apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": resources}


def _list(names: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"
