"""What Kubernetes takes and this yard refuses, because it wouldn't keep the promise.

A pod runs as a process of the host (its runtime class says so) or in an image, through podman.
`securityContext` of a process is accepted: the kubelet lists on the pod what it doesn't apply. Names that
only DNS would make use of (hostname, subdomain) and pull secrets are accepted too, since nothing waits for
them: podman has the credentials of the yard's user.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.kube.wellknown import IMAGE_PROCESS, RUNTIME_CLASS_PROCESS
from gpuyard.local.objects.kinds.fields import forbidden, invalid, required
from gpuyard.local.objects.kinds.kind import FieldError
from gpuyard.local.objects.kinds.probes import probe_limits

_NO_SUCH_CLASS = f"this yard has one runtime class, {RUNTIME_CLASS_PROCESS}; leave it out to run an image"
_NOT_AN_IMAGE = f"{IMAGE_PROCESS} stands for a process of the host: set this to {RUNTIME_CLASS_PROCESS}"
_NO_IMAGE_WANTED = (
    f"a process of the host has no image: set it to {IMAGE_PROCESS}, or leave out runtimeClassName "
    "to run the image"
)

#: Fields of the pod spec that would change what runs, and why they aren't honoured.
_POD_FIELDS = {
    "hostNetwork": "processes and containers of this yard share the host's network anyway; leave it out",
    "hostPID": "this yard doesn't share process ids between pods and host; leave it out",
    "hostIPC": "this yard doesn't share IPC between pods and host; leave it out",
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
    "restartPolicy": "this yard has no restart policy of single containers",
    "restartPolicyRules": "this yard has no restart policy of single containers",
    "volumeDevices": "this yard has no block volumes",
}
#: The same of containers with an image.
_IMAGE_FIELDS = {
    "tty": "this yard gives terminals to processes of the host only; exec has one in an image, too",
}
#: Types of host paths that are folders; without a type it is what is there.
HOST_FOLDERS = ("", "Directory", "DirectoryOrCreate")
_VOLUMES = ("emptyDir", "configMap", "downwardAPI", "hostPath", "persistentVolumeClaim")
_MOUNT_FIELDS = ("subPath", "subPathExpr", "mountPropagation", "recursiveReadOnly")


def yard_limits(path: str, spec: Mapping[str, Any]) -> list[FieldError]:
    """One error for each field that this yard would not honour."""
    found = _one_of_both(path, spec)
    found += [forbidden(f"{path}.{name}", why) for name, why in _POD_FIELDS.items() if spec.get(name)]
    if spec.get("shareProcessNamespace") and spec.get("runtimeClassName"):
        found.append(forbidden(f"{path}.shareProcessNamespace", "processes of this host share none"))
    if spec.get("hostUsers") is False:
        found.append(forbidden(f"{path}.hostUsers", "this yard has no user namespaces"))
    if (spec.get("os") or {}).get("name", "linux") != "linux":
        found.append(forbidden(f"{path}.os.name", "this yard's node runs linux"))
    found += _only_one_node(path, spec)
    for index, volume in enumerate(spec.get("volumes") or ()):
        found += _volume_limits(f"{path}.volumes[{index}]", volume)
    for field in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            fields = _CONTAINER_FIELDS if spec.get("runtimeClassName") else _CONTAINER_FIELDS | _IMAGE_FIELDS
            found += _container_limits(f"{path}.{field}[{index}]", container, fields)
    return found


def no_images(path: str, spec: Mapping[str, Any], why: str) -> list[FieldError]:
    """Refuses a pod with images where `why` says that none can run."""
    if not why or spec.get("runtimeClassName"):
        return []
    return [
        required(
            f"{path}.runtimeClassName",
            f"this yard can't run images, since {why}: install podman (Debian: podman runc netavark uidmap) "
            f"and restart the yard, or set it to {RUNTIME_CLASS_PROCESS} to run a process of the host",
        )
    ]


def _one_of_both(path: str, spec: Mapping[str, Any]) -> list[FieldError]:
    """A process of the host, or images: its runtime class and its images have to agree."""
    name = spec.get("runtimeClassName")
    if name and name != RUNTIME_CLASS_PROCESS:
        return [invalid(f"{path}.runtimeClassName", name, _NO_SUCH_CLASS)]
    images = {
        f"{path}.{field}[{index}].image": container.get("image")
        for field in ("containers", "initContainers")
        for index, container in enumerate(spec.get(field) or ())
    }
    if name:
        others = {place: image for place, image in images.items() if image and image != IMAGE_PROCESS}
        return [invalid(place, image, _NO_IMAGE_WANTED) for place, image in others.items()]
    if IMAGE_PROCESS in images.values():
        return [required(f"{path}.runtimeClassName", _NOT_AN_IMAGE)]
    return _security_limits(path, spec)


def _security_limits(path: str, spec: Mapping[str, Any]) -> list[FieldError]:
    """What would widen or change the rights of a container, and isn't passed on to podman."""
    places = [(f"{path}.securityContext", spec.get("securityContext") or {})]
    for field in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            context = container.get("securityContext") or {}
            places.append((f"{path}.{field}[{index}].securityContext", context))
    found = []
    for place, context in places:
        if context.get("privileged"):
            found.append(forbidden(f"{place}.privileged", "this yard runs no privileged containers"))
        if context.get("sysctls"):
            found.append(forbidden(f"{place}.sysctls", "containers of this yard share the host's network"))
        if context.get("procMount", "Default") != "Default":
            found.append(forbidden(f"{place}.procMount", "this yard always masks /proc"))
        if (context.get("seccompProfile") or {}).get("type") == "Localhost":
            detail = "this yard has the profiles RuntimeDefault and Unconfined"
            found.append(forbidden(f"{place}.seccompProfile.type", detail))
    return found


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


def _volume_limits(path: str, volume: Mapping[str, Any]) -> list[FieldError]:
    others = sorted(volume.keys() - {"name", *_VOLUMES})
    found = [
        forbidden(
            f"{path}.{name}",
            f"this yard has {', '.join(_VOLUMES[1:-1])} and {_VOLUMES[-1]} volumes",
        )
        for name in others
    ]
    medium = (volume.get("emptyDir") or {}).get("medium", "")
    if medium not in ("", "Memory"):
        found.append(forbidden(f"{path}.emptyDir.medium", "this yard has the media disk (empty) and Memory"))
    for index, item in enumerate((volume.get("downwardAPI") or {}).get("items") or ()):
        if "resourceFieldRef" in item:
            place = f"{path}.downwardAPI.items[{index}].resourceFieldRef"
            found.append(forbidden(place, "this yard writes fields of the pod only (fieldRef)"))
    if (volume.get("hostPath") or {}).get("type", "") not in HOST_FOLDERS:
        found.append(forbidden(f"{path}.hostPath.type", "this yard mounts folders only"))
    return found


def _container_limits(path: str, container: Mapping[str, Any], fields: Mapping[str, str]) -> list[FieldError]:
    found: list[FieldError] = []
    found += [forbidden(f"{path}.{name}", why) for name, why in fields.items() if container.get(name)]
    found += [forbidden(f"{path}.{place}", why) for place, why in probe_limits(container)]
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
