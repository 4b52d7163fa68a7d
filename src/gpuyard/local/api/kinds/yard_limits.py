"""What Kubernetes takes and this yard refuses, because it wouldn't keep the promise.

`securityContext` is accepted: the kubelet lists on the pod what it doesn't apply. Names that only DNS
would make use of (hostname, subdomain) and pull secrets are accepted too, since nothing waits for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.kube.wellknown import IMAGE_PROCESS, RUNTIME_CLASS_PROCESS
from gpuyard.local.api.kinds.fields import forbidden, invalid, required
from gpuyard.local.api.kinds.kind import FieldError

_ONLY_PROCESSES = "this yard runs host processes only; images are not run here yet"

#: Fields of the pod spec that would change what runs, and why they aren't honoured.
_POD_FIELDS = {
    "hostNetwork": "processes of this yard share the host's network anyway; leave it out",
    "hostPID": "this yard doesn't share process ids between pods and host; leave it out",
    "hostIPC": "this yard doesn't share IPC between pods and host; leave it out",
    "shareProcessNamespace": "this yard has no shared process namespace",
    "setHostnameAsFQDN": "this yard sets no host names",
    "hostnameOverride": "this yard sets no host names",
    "hostAliases": "this yard writes no hosts file",
    "dnsConfig": "this yard uses the host's resolver",
    "ephemeralContainers": "this yard has no ephemeral containers",
    "resourceClaims": "this yard has no resource claims; ask for nvidia.com/gpu in resources.limits",
    "resources": "this yard knows resources of containers only; put them there",
    "overhead": "this yard has no runtime classes with overhead",
    "readinessGates": "this yard has no readiness gates",
    "automountServiceAccountToken": "this yard has no service account tokens",
    "evictionResponders": "this yard has no eviction responders",
    "schedulingGroup": "this yard schedules pods one by one",
}
_CONTAINER_FIELDS = {
    "livenessProbe": "this yard runs no probes yet",
    "readinessProbe": "this yard runs no probes yet",
    "startupProbe": "this yard runs no probes yet",
    "lifecycle": "this yard runs no lifecycle hooks",
    "restartPolicy": "this yard has no restart policy of single containers",
    "restartPolicyRules": "this yard has no restart policy of single containers",
    "volumeDevices": "this yard has no block volumes",
    "stdin": "this yard attaches no standard input",
    "stdinOnce": "this yard attaches no standard input",
    "tty": "this yard attaches no terminals",
}
_MOUNT_FIELDS = ("subPath", "subPathExpr", "mountPropagation", "recursiveReadOnly")


def yard_limits(path: str, spec: Mapping[str, Any]) -> list[FieldError]:
    """One error for each field that this yard would not honour."""
    found = _only_processes(path, spec)
    found += [forbidden(f"{path}.{name}", why) for name, why in _POD_FIELDS.items() if spec.get(name)]
    if spec.get("hostUsers") is False:
        found.append(forbidden(f"{path}.hostUsers", "this yard has no user namespaces"))
    if (spec.get("os") or {}).get("name", "linux") != "linux":
        found.append(forbidden(f"{path}.os.name", "this yard's node runs linux"))
    found += _only_one_node(path, spec)
    for index, volume in enumerate(spec.get("volumes") or ()):
        found += _only_empty_dirs(f"{path}.volumes[{index}]", volume)
    for field in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            found += _container_limits(f"{path}.{field}[{index}]", container)
    return found


def _only_processes(path: str, spec: Mapping[str, Any]) -> list[FieldError]:
    place, name = f"{path}.runtimeClassName", spec.get("runtimeClassName")
    if not name:
        return [required(place, f"{_ONLY_PROCESSES}: set it to {RUNTIME_CLASS_PROCESS}")]
    if name != RUNTIME_CLASS_PROCESS:
        return [invalid(place, name, f"{_ONLY_PROCESSES}: set it to {RUNTIME_CLASS_PROCESS}")]
    return []


def _only_one_node(path: str, spec: Mapping[str, Any]) -> list[FieldError]:
    """A yard has one node: what must be spread or kept apart from others can't be."""
    found: list[FieldError] = []
    affinity = spec.get("affinity") or {}
    for name in ("podAffinity", "podAntiAffinity"):
        field = "requiredDuringSchedulingIgnoredDuringExecution"
        if (affinity.get(name) or {}).get(field):
            place = f"{path}.affinity.{name}.{field}"
            found.append(forbidden(place, "this yard has one node and doesn't place pods by other pods"))
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        if constraint.get("whenUnsatisfiable") != "ScheduleAnyway":
            place = f"{path}.topologySpreadConstraints[{index}]"
            found.append(forbidden(place, "this yard has one node; only ScheduleAnyway can be met"))
    return found


def _only_empty_dirs(path: str, volume: Mapping[str, Any]) -> list[FieldError]:
    others = sorted(volume.keys() - {"name", "emptyDir"})
    found = [
        forbidden(
            f"{path}.{name}", "this yard has emptyDir volumes only; a process sees the host's files itself"
        )
        for name in others
    ]
    medium = (volume.get("emptyDir") or {}).get("medium", "")
    if medium not in ("", "Memory"):
        found.append(forbidden(f"{path}.emptyDir.medium", "this yard has the media disk (empty) and Memory"))
    return found


def _container_limits(path: str, container: Mapping[str, Any]) -> list[FieldError]:
    found: list[FieldError] = []
    image = container.get("image")
    if image and image != IMAGE_PROCESS:
        found.append(invalid(f"{path}.image", image, f"{_ONLY_PROCESSES}: set it to {IMAGE_PROCESS}"))
    found += [
        forbidden(f"{path}.{name}", why) for name, why in _CONTAINER_FIELDS.items() if container.get(name)
    ]
    for index, port in enumerate(container.get("ports") or ()):
        if port.get("hostPort"):
            detail = "a process listens on the host itself; leave it out"
            found.append(forbidden(f"{path}.ports[{index}].hostPort", detail))
    if (container.get("resources") or {}).get("claims"):
        found.append(forbidden(f"{path}.resources.claims", _POD_FIELDS["resourceClaims"]))
    for index, variable in enumerate(container.get("env") or ()):
        if "fileKeyRef" in (variable.get("valueFrom") or {}):
            detail = "this yard reads no variables from files"
            found.append(forbidden(f"{path}.env[{index}].valueFrom.fileKeyRef", detail))
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        found += [
            forbidden(f"{path}.volumeMounts[{index}].{name}", "this yard mounts whole volumes only")
            for name in _MOUNT_FIELDS
            if mount.get(name)
        ]
    return found
