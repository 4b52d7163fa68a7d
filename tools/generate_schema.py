"""Writes the schema of the served kinds from lightkube-models. With --check, says instead what differs.

schema.json is what the API server needs for every request; descriptions.json only for `kubectl explain`.

A type is written as text: `s` string, `b` bool, `i` int32, `l` int64, `q` quantity, `t` time, `u` time with
microseconds, `x` int or string, `d` base64, `j` any object, `@core.v1.PodSpec` a reference, `[…` list of,
`{…` map from string to.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "src/gpuyard/local/objects/kinds"
ROOTS = (
    "apps.v1.Deployment", "apps.v1.ReplicaSet", "autoscaling.v1.Scale",
    "autoscaling.v2.HorizontalPodAutoscaler",
    "core.v1.Binding", "core.v1.ConfigMap", "core.v1.Event", "core.v1.Namespace", "core.v1.Node",
    "core.v1.PersistentVolume", "core.v1.PersistentVolumeClaim", "core.v1.Pod", "core.v1.Secret",
    "core.v1.Service", "core.v1.ServiceAccount", "storage.v1.StorageClass", "batch.v1.Job",
    "coordination.v1.Lease", "discovery.v1.EndpointSlice", "policy.v1.Eviction",
    "policy.v1.PodDisruptionBudget", "scheduling.v1.PriorityClass", "meta.v1.DeleteOptions",
    "meta.v1.ListMeta", "meta.v1.Status", "authorization.v1.SelfSubjectAccessReview",
    "authorization.v1.SelfSubjectRulesReview", "authentication.v1.SelfSubjectReview",
)  # fmt: skip

SCALARS = {
    "str": "s", "int": "i", "bool": "b", "datetime": "t", "dict": "{s", "Any": "j", "Dict": "j",
    "Time": "t", "MicroTime": "u", "Quantity": "q", "IntOrString": "x", "FieldsV1": "j",
}  # fmt: skip

#: lightkube-models knows neither the width of integers nor the values of maps.
INT64 = {
    "activeDeadlineSeconds", "deletionGracePeriodSeconds", "expirationSeconds", "fsGroup",
    "generation", "gid", "gracePeriodSeconds", "observedGeneration", "runAsGroup", "runAsUser", "seconds",
    "sizeBytes", "supplementalGroups", "terminationGracePeriodSeconds", "tolerationSeconds", "uid",
}  # fmt: skip
FIELD_TYPES = {
    "ConfigMap.binaryData": "{d", "Secret.data": "{d", "PodSpec.overhead": "{q", "UserInfo.extra": "{[s",
    "ResourceRequirements.limits": "{q", "ResourceRequirements.requests": "{q",
    "PersistentVolumeClaimStatus.allocatedResources": "{q", "PersistentVolumeClaimStatus.capacity": "{q",
    "PersistentVolumeSpec.capacity": "{q", "VolumeResourceRequirements.limits": "{q",
    "VolumeResourceRequirements.requests": "{q", "NodeStatus.allocatable": "{q", "NodeStatus.capacity": "{q",
    "ContainerStatus.allocatedResources": "{q", "PodStatus.allocatedResources": "{q",
    "PodDisruptionBudgetStatus.disruptedPods": "{t",
}  # fmt: skip

#: `patchMergeKey` and `patchStrategy` of k8s.io/api and apimachinery, for the types here; a list of
#: scalars that merges has no key.
PATCH = {
    "meta.v1.ObjectMeta": {"finalizers": "", "ownerReferences": "uid"},
    "core.v1.Container": {
        "env": "name", "ports": "containerPort", "volumeDevices": "devicePath", "volumeMounts": "mountPath",
    },
    "core.v1.EphemeralContainer": {
        "env": "name", "ports": "containerPort", "volumeDevices": "devicePath", "volumeMounts": "mountPath",
    },
    "core.v1.ContainerStatus": {"allocatedResourcesStatus": "name", "volumeMounts": "mountPath"},
    "core.v1.PodSpec": {
        "containers": "name", "ephemeralContainers": "name", "hostAliases": "ip", "imagePullSecrets": "name",
        "initContainers": "name", "resourceClaims": "name,retainKeys", "schedulingGates": "name",
        "topologySpreadConstraints": "topologyKey", "volumes": "name,retainKeys",
    },
    "core.v1.PodStatus": {
        "conditions": "type", "hostIPs": "ip", "podIPs": "ip", "resourceClaimStatuses": "name,retainKeys",
    },
    "core.v1.NodeSpec": {"podCIDRs": ""},
    "core.v1.NodeStatus": {"addresses": "type", "conditions": "type"},
    "core.v1.NamespaceStatus": {"conditions": "type"},
    "core.v1.ServiceAccount": {"secrets": "name"},
    "core.v1.ServiceSpec": {"ports": "port"},
    "core.v1.ServiceStatus": {"conditions": "type"},
    "core.v1.PersistentVolumeClaimStatus": {"conditions": "type"},
    "batch.v1.JobStatus": {"conditions": "type"},
    "apps.v1.DeploymentSpec": {"strategy": ",retainKeys"},
    "apps.v1.DeploymentStatus": {"conditions": "type"},
    "apps.v1.ReplicaSetStatus": {"conditions": "type"},
    "policy.v1.PodDisruptionBudgetSpec": {"selector": ",replace"},
    "policy.v1.PodDisruptionBudgetStatus": {"conditions": "type"},
    "autoscaling.v2.HorizontalPodAutoscalerStatus": {"conditions": "type"},
}  # fmt: skip


def class_of(type_name: str) -> Any:
    group, version, name = type_name.split(".")
    return getattr(importlib.import_module(f"lightkube.models.{group}_{version}"), name)


def descriptor(owner: str, field: str, annotation: str) -> str:
    """The type of one field in the notation above."""
    given = FIELD_TYPES.get(f"{owner.rsplit('.', 1)[1]}.{field}")
    if given:
        return given
    text = re.sub(r"^Optional\[(.*)\]$", r"\1", annotation)
    if match := re.match(r"^List\[(.*)\]$", text):
        return "[" + descriptor(owner, field, match[1])
    module, _, name = text.rpartition(".")
    if name == "int":
        return "l" if field in INT64 else "i"
    if name in SCALARS:
        return SCALARS[name]
    own_module = ".".join(owner.split(".")[:2]).replace(".", "_")
    target = f"{(module or own_module).replace('_', '.')}.{name}"
    return "@" + target if has_fields(target) else "j"


def has_fields(type_name: str) -> bool:
    cls = class_of(type_name)
    return inspect.isclass(cls) and bool(getattr(cls, "__annotations__", None))


def describe(cls: Any) -> tuple[str, dict[str, str]]:
    """First sentences of the docstring: of the type, and of each field."""
    doc = inspect.cleandoc(cls.__doc__ or "")
    head, _, rest = doc.partition("**parameters**")
    fields = {}
    for match in re.finditer(r"^\* \*\*(\w+)\*\* ``[^`]*`` - (.*?)(?=^\* \*\*|\Z)", rest, re.M | re.S):
        fields[match[1]] = sentence(match[2])
    return sentence(head), fields


def sentence(text: str) -> str:
    flat = " ".join(text.split())
    match = re.match(r"^(.+?[.!])(?<!e\.g\.)(?<!i\.e\.)(\s|$)", flat)
    return match[1] if match else flat


def generate() -> dict[str, str]:
    types: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        if name in types:
            continue
        cls = class_of(name)
        fields = {f: descriptor(name, f, str(a)) for f, a in sorted(cls.__annotations__.items())}
        required = [f for f, a in sorted(cls.__annotations__.items()) if not str(a).startswith("Optional[")]
        types[name] = {"fields": fields}
        if required:
            types[name]["required"] = required
        if name in PATCH:
            types[name]["patch"] = PATCH[name]
            assert PATCH[name].keys() <= fields.keys(), name
        head, parts = describe(cls)
        texts[name] = {"": head, **{f: parts[f] for f in fields if parts.get(f)}}
        waiting += [kind.lstrip("[{@") for kind in fields.values() if "@" in kind]
    assert PATCH.keys() <= types.keys(), PATCH.keys() - types.keys()
    return {"schema.json": compact(types), "descriptions.json": compact(texts)}


def compact(value: dict[str, Any]) -> str:
    """One type a line: small to load, and a diff still says what changed."""
    lines = [f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in sorted(value.items())]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for name, text in generate().items():
        path = TARGET / name
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(name)
        if check:
            print(f"{path} differs from what tools/generate_schema.py writes", file=sys.stderr)
        else:
            path.write_text(text)
    return 1 if stale and check else 0


if __name__ == "__main__":
    raise SystemExit(main())
