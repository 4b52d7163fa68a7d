"""What pods of tenants may not do: reach GPUs past the scheduler, other tenants, or the node.

Four policies. One looks at pods alone, one at Services. The two others have RuntimeClasses and
PriorityClasses as parameters: the API server evaluates them for each object of that kind, so they know a
class that was made a moment ago.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gpuyard.gpus.resources import GPU_RESOURCE, MIG_PREFIX, SHARED_SUFFIX, whole_gpus
from gpuyard.kube.wellknown import (
    AMD,
    LABEL_GIVES_GPUS,
    LABEL_MAX_PRIORITY,
    LABEL_SHARED_GPUS,
    LABEL_TENANT,
)
from gpuyard.tenancy.names import TENANTS, TENANTS_PRIORITIES, TENANTS_RUNTIMES, TENANTS_SERVICES
from gpuyard.tenancy.policies.admission_policy import admission_policy, cel_list, resource_rule

#: They choose devices past the device plugin; "void" chooses none.
#: Source: NVIDIA/nvidia-container-toolkit, internal/config/image; AMD's Container Toolkit has the last one.
_VARIABLES = (
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_MIG_CONFIG_DEVICES",
    "NVIDIA_MIG_MONITOR_DEVICES",
    "NVIDIA_IMEX_CHANNELS",
    "NVIDIA_NVSWITCH",
    "AMD_VISIBLE_DEVICES",
)
#: Handlers that give GPUs to nobody. Any name may stand for NVIDIA's runtime: an unknown one is taken for it.
_HARMLESS_HANDLERS = "^(runc|crun|youki|runsc|gvisor|sysbox-runc|kata.*|wasm.*|spin.*)$"
#: Those of Pod Security's "baseline" but MKNOD, and what training asks for: memory that stays in place for
#: RDMA, binding to NUMA nodes, profilers and `kubectl debug --profile=general`. None reaches beyond the pod,
#: which has no namespace of the host.
_CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "NET_RAW"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    *("IPC_LOCK", "SYS_NICE", "SYS_PTRACE"),
)
#: Of Pod Security's "baseline".
_SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
#: They put devices or files of the node into containers: CDI, NRI's device injector (containerd/nri,
#: plugins/device-injector; another name of the same on GKE), CRI-O.
_ANNOTATIONS = (
    *("cdi.k8s.io/", "nvidia.cdi.k8s.io/"),
    *("devices.nri.io", "cdi-devices.nri.io", "netdevices.nri.io", "mounts.nri.io"),
    *("devices.noderesource.dev", "cdi-devices.noderesource.dev", "mounts.noderesource.dev"),
    *("devices.gke.io/container.", "io.kubernetes.cri-o.Devices"),
)
#: Those of Pod Security's "restricted", and two more that bring neither a device nor a file of the node.
#: `fc` mounts any disk of the node that is in /dev/disk/by-id (kubernetes, pkg/volume/fc/fc_util.go), that of
#: its own file system too; disks of a cloud are other machines'.
_VOLUMES = (
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "nfs"),
    *("persistentVolumeClaim", "projected", "secret"),
)

_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
#: They report static pods; a namespace can't be closed to them.
NOT_A_KUBELET = (
    '!(request.userInfo.username.startsWith("system:node:")'
    ' && "system:nodes" in request.userInfo.?groups.orValue([]))'
)

#: What a binding's spec says of the namespaces.
OF_TENANTS = {
    "matchResources": {
        "namespaceSelector": {"matchExpressions": [{"key": LABEL_TENANT, "operator": "Exists"}]}
    }
}
#: What an update of `pods/ephemeralcontainers` adds.
NEW_EPHEMERAL = (
    "object.spec.?ephemeralContainers.orValue([]).filter(c,"
    " !oldObject.spec.?ephemeralContainers.orValue([]).exists(o, o.name == c.name))"
)
_SUBRESOURCE = 'request.?subResource.orValue("")'
#: A pod that was there before its namespace became a tenant's must still be able to change and to go: of an
#: update only what it adds is looked at.
_CREATES = {"name": "creates", "expression": 'request.operation == "CREATE"'}
_CONTAINERS = {
    "name": "containers",
    "expression": (
        "variables.creates"
        " ? object.spec.containers + object.spec.?initContainers.orValue([])"
        f' : {_SUBRESOURCE} == "ephemeralcontainers" ? {NEW_EPHEMERAL} : []'
    ),
}
_BEFORE = {
    "name": "before",
    "expression": "variables.creates ? {} : oldObject.metadata.?annotations.orValue({})",
}
_CONTEXTS = {
    "name": "contexts",
    "expression": (
        "(variables.creates && has(object.spec.securityContext) ? [dyn(object.spec.securityContext)] : [])"
        " + variables.containers.filter(c, has(c.securityContext)).map(c, dyn(c.securityContext))"
    ),
}
_EACH = "variables.containers.all(c, "
_SPEC = "!variables.creates || "
_CONTEXT = "variables.contexts.all(s, "
_HAS_GPU = (
    f"c.?resources.?limits.orValue({{}}).exists(n, (n in {cel_list([GPU_RESOURCE, whole_gpus(AMD)])}"
    f' || n.startsWith("{GPU_RESOURCE}.") || n.startsWith("{MIG_PREFIX}"))'
    ' && quantity(string(c.resources.limits[n])).isGreaterThan(quantity("0")))'
)
_IS_VOID = (
    'c.?env.orValue([]).exists(e, e.name == "NVIDIA_VISIBLE_DEVICES" && e.?value.orValue("") == "void")'
)


def tenant_policies() -> list[dict[str, Any]]:
    """The policies for what namespaces with the tenant label have, each with its binding."""
    return [*_pods(), *_runtimes(), *_priorities(), *_services()]


def _pods() -> list[dict[str, Any]]:
    rules = (*_device_rules(), *_node_rules())
    return _policy(
        TENANTS,
        [_CREATES, _CONTAINERS, _BEFORE, _CONTEXTS],
        [{"expression": rule, "message": f"gpuyard: {message}"} for rule, message in rules],
    )


def _runtimes() -> list[dict[str, Any]]:
    rule = (
        'object.spec.?runtimeClassName.orValue("") != params.metadata.name'
        f' || params.handler.matches("{_HARMLESS_HANDLERS}")'
        f' || params.metadata.?labels[?"{LABEL_GIVES_GPUS}"].orValue("") == "false"'
        f" || {_EACH}{_HAS_GPU} || {_IS_VOID})"
    )
    message = (
        '"gpuyard: the runtimeClassName " + params.metadata.name + " may give containers without a GPU limit'
        ' every GPU (its handler is " + params.handler + "): leave it out, or set NVIDIA_VISIBLE_DEVICES'
        ' to void there; if it gives none, an administrator says so: kubectl label runtimeclass " +'
        f' params.metadata.name + " {LABEL_GIVES_GPUS}=false"'
    )
    return _policy(
        TENANTS_RUNTIMES,
        [_CREATES, _CONTAINERS],
        [{"expression": rule, "messageExpression": message}],
        each="node.k8s.io/v1 RuntimeClass",
    )


def _priorities() -> list[dict[str, Any]]:
    allowed = f'namespaceObject.metadata.?labels[?"{LABEL_MAX_PRIORITY}"].orValue("")'
    # Nine digits: classes of the system, from 2000000000 on, are out of reach.
    highest = f'{allowed}.matches("^[0-9]{{1,9}}$") ? int({allowed}) : 0'
    rule = (
        '!variables.creates || object.spec.?priorityClassName.orValue("") != params.metadata.name'
        " || params.?globalDefault.orValue(false) || params.value <= variables.highest"
    )
    message = (
        '"gpuyard: pods of the PriorityClass " + params.metadata.name + " (" + string(params.value)'
        ' + ") take GPUs from others, and this namespace may have " + string(variables.highest)'
        ' + " at most: use another" + (params.value > 999999999 ? "" : ", or have an administrator allow it:'
        f' kubectl label namespace " + request.namespace + " {LABEL_MAX_PRIORITY}=" + string(params.value))'
    )
    return _policy(
        TENANTS_PRIORITIES,
        [_CREATES, {"name": "highest", "expression": highest}],
        [{"expression": rule, "messageExpression": message}],
        each="scheduling.k8s.io/v1 PriorityClass",
        # Pods of a group have the group's priority against those that would take their place.
        also=[{**resource_rule("scheduling.k8s.io", ["podgroups"], ["CREATE"]), "apiVersions": ["*"]}],
    )


def _services() -> list[dict[str, Any]]:
    """Who may submit runs of several pods may make Services, and could so take others' traffic
    (CVE-2020-8554)."""
    own = "object.spec.?externalIPs.orValue([])"
    before = 'request.operation == "UPDATE" ? oldObject.spec.?externalIPs.orValue([]) : []'
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [resource_rule("", ["services"], ["CREATE", "UPDATE"])]},
        "variables": [{"name": "before", "expression": before}],
        "validations": [
            {
                "expression": f"{own}.all(address, address in variables.before)",
                "message": "gpuyard: externalIPs take others' traffic to these addresses: leave them out",
            }
        ],
    }
    return admission_policy(TENANTS_SERVICES, spec, dict(OF_TENANTS))


def _policy(
    name: str,
    variables: list[dict[str, str]],
    validations: list[dict[str, str]],
    each: str = "",
    also: Iterable[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """A policy for tenants' pods.

    Args:
        name: of it and its binding.
        variables: of its rules.
        validations: rules with what they say.
        each: group, version and kind of the objects for each of which the rules hold, as `params`.
        also: what the rules hold for beside pods.
    """
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                resource_rule("", ["pods"], ["CREATE", "UPDATE"]),
                resource_rule("", ["pods/ephemeralcontainers"], ["UPDATE"]),
                *also,
            ]
        },
        "matchConditions": [{"name": "not-a-kubelet", "expression": NOT_A_KUBELET}],
        "variables": variables,
        "validations": validations,
    }
    match: dict[str, Any] = dict(OF_TENANTS)
    if each:
        version, kind = each.split()
        spec["paramKind"] = {"apiVersion": version, "kind": kind}
        # A pod can't name a class of which there is none.
        match["paramRef"] = {"selector": {}, "parameterNotFoundAction": "Allow"}
    return admission_policy(name, spec, match)


def _device_rules() -> list[tuple[str, str]]:
    """What chooses devices past the scheduler."""
    prefixes = " || ".join(f'n.startsWith("{prefix}")' for prefix in _ANNOTATIONS)
    return [
        (
            f"{_EACH}c.?env.orValue([]).all(e, !(e.name in {cel_list(_VARIABLES)})"
            ' || e.?value.orValue("") == "void"'
            ' || (e.name == "AMD_VISIBLE_DEVICES" && e.?value.orValue("") == "none")))',
            "NVIDIA_VISIBLE_DEVICES and its like choose GPUs past the scheduler: ask for them under "
            f"limits, {GPU_RESOURCE}; only the value void is allowed, and none of AMD's",
        ),
        (
            f'{_SPEC}namespaceObject.metadata.?labels[?"{LABEL_SHARED_GPUS}"].orValue("") == "true"'
            f' || {_EACH}["limits", "requests"].all(kind, c.?resources[?kind].orValue({{}}).all(n,'
            f' !n.endsWith("{SHARED_SUFFIX}"))))',
            "shared GPUs isolate nothing, and this namespace may have none: ask for whole ones, or have an "
            f"administrator allow them: kubectl label namespace NAME {LABEL_SHARED_GPUS}=true",
        ),
        (
            f'{_EACH}c.?volumeMounts.orValue([]).all(m, !m.mountPath.contains("nvidia-container-devices")))',
            "mounts under /var/run/nvidia-container-devices choose GPUs past the scheduler: leave them out",
        ),
        (
            f"{_EACH}c.?volumeDevices.orValue([]).size() == 0)",
            "volumeDevices put devices of the node into containers: mount the volume with volumeMounts",
        ),
        (
            f"object.metadata.?annotations.orValue({{}}).all(n, !({prefixes}) || n in variables.before)",
            "annotations under cdi.k8s.io/, nvidia.cdi.k8s.io/ and devices.nri.io/ and their like choose "
            "devices past the scheduler: leave them out",
        ),
    ]


def _node_rules() -> list[tuple[str, str]]:
    """What reaches the node, and so all that runs there."""
    capabilities = ", ".join(_CAPABILITIES)
    volumes = " || ".join(f"has(v.{kind})" for kind in _VOLUMES)
    selinux = f's.?seLinuxOptions.?type.orValue("") in {cel_list(_SELINUX_TYPES)}'
    return [
        (
            f"{_SPEC}object.spec.?volumes.orValue([]).all(v, {volumes})",
            "hostPath volumes reach the node's devices and files, and others attach disks or run programs "
            f"there: tenants may use only {', '.join(_VOLUMES)}",
        ),
        (
            f"{_CONTEXT}!s.?privileged.orValue(false) && !s.?windowsOptions.?hostProcess.orValue(false))",
            "privileged containers reach every GPU: leave privileged (or hostProcess) out",
        ),
        (
            f"{_CONTEXT}s.?capabilities.?add.orValue([]).all(n,"
            f' n.upperAscii().replace("CAP_", "", 1) in {cel_list(_CAPABILITIES)}))',
            f"a capability reaches the node or other pods: tenants may add only {capabilities}",
        ),
        (
            f'{_CONTEXT}{selinux} && s.?seLinuxOptions.?user.orValue("") == ""'
            ' && s.?seLinuxOptions.?role.orValue("") == "")',
            "this seLinuxOptions takes the container out of its confinement: leave type, user and role out",
        ),
        (
            f'{_CONTEXT}s.?procMount.orValue("Default") == "Default")',
            "procMount other than Default opens files of the node's kernel: leave it out",
        ),
        (
            f'{_CONTEXT}s.?seccompProfile.?type.orValue("") != "Unconfined"'
            ' && s.?appArmorProfile.?type.orValue("") != "Unconfined")'
            " && object.metadata.?annotations.orValue({}).all(n,"
            f' !n.startsWith("{_APPARMOR}") || object.metadata.annotations[n] != "unconfined"'
            " || n in variables.before)",
            "seccomp and AppArmor may not be Unconfined: leave them out, or use RuntimeDefault",
        ),
        (
            f"{_SPEC}!(object.spec.?hostIPC.orValue(false) || object.spec.?hostPID.orValue(false)"
            " || object.spec.?hostNetwork.orValue(false))",
            "hostIPC, hostPID and hostNetwork reach other tenants' processes: leave them out",
        ),
        (
            f'{_SPEC}object.spec.?nodeName.orValue("") == ""',
            "spec.nodeName goes round scheduler and quota: use a nodeSelector",
        ),
    ]
