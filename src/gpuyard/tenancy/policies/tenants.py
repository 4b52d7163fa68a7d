"""What pods of tenants may not do: reach GPUs past the scheduler, or the node."""

from __future__ import annotations

from typing import Any

from gpuyard.gpus.resources import GPU_RESOURCE, MIG_PREFIX
from gpuyard.kube.wellknown import LABEL_TENANT
from gpuyard.tenancy.names import RUNTIME_CLASS, TENANTS
from gpuyard.tenancy.policies.admission_policy import admission_policy, cel_list, resource_rule

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
        resource_rule("", ["pods"], ["CREATE", "UPDATE"]),
        resource_rule("", ["pods/ephemeralcontainers"], ["UPDATE"]),
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
    return admission_policy(TENANTS, spec, {"namespaceSelector": selector})


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
            f"{each}c.?env.orValue([]).all(e, !(e.name in {cel_list(_VARIABLES)})"
            ' || e.?value.orValue("") == "void"))',
            "NVIDIA_VISIBLE_DEVICES and its like choose GPUs past the scheduler: ask for them under "
            f"limits, {GPU_RESOURCE}; only the value void is allowed",
        ),
        (
            f'{spec}!(object.spec.?runtimeClassName.orValue("") in {cel_list(_RUNTIME_CLASSES)})'
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
            f' !(n.upperAscii().replace("CAP_", "") in {cel_list(_CAPABILITIES)})))',
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
