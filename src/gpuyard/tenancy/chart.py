"""The same manifests as a Helm chart and as a kustomize base with components (pure: texts by file name)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gpuyard.kube.objects import Manifest, key_of
from gpuyard.tenancy.install import install, resource_of, template
from gpuyard.tenancy.options import (
    HELM_PLUGIN_MEMORY,
    METRICS_PORT,
    OWN_TOLERATIONS,
    TOLERATE_ALL,
    DriverAccess,
    InstallOptions,
)
from gpuyard.tenancy.template import chart

#: Writes documents of one stream.
ToYaml = Callable[[Sequence[Any]], str]

_NOTE = "# Written by tools/generate_deploy.py from src/gpuyard/tenancy.\n"
#: There is no published image: whoever installs names the one that they built.
_IMAGE = "gpuyard-agent"
#: Each as a change of the base.
COMPONENTS: Mapping[str, Mapping[str, Any]] = {
    "simulate": {"simulate": "H100:8"},
    "privileged": {"driver_access": DriverAccess.PRIVILEGED},
    "taint": {"taint": True},
    "metrics": {"metrics": True},
    # An exporter has what its plugin has of these: in the place of two components.
    "metrics-simulate": {"metrics": True, "simulate": "H100:8"},
    "metrics-privileged": {"metrics": True, "driver_access": DriverAccess.PRIVILEGED},
    "pod-monitor": {"pod_monitor": True},
    "host-pid": {"host_pid": True},
    "policy": {"policy": True},
    "void": {"void": True},
    "before-1.30": {"confine": False},
    "tolerate-all": {"tolerations": (TOLERATE_ALL,)},
}
#: What a component comes after, as a change of the base.
_AFTER: Mapping[str, Mapping[str, Any]] = {"pod-monitor": {"metrics": True}}
#: What an install adds to the values.
_EXPRESSIONS = {
    # The agent's argument is JSON, and as such a text.
    "gpuConfig": "(toJson .Values.gpuConfig)",
    "pluginMemory": HELM_PLUGIN_MEMORY,
    "tolerations": "(concat (list {}) .Values.tolerations)".format(
        " ".join(
            f"(dict {' '.join(json.dumps(word) for pair in each.items() for word in pair)})"
            for each in OWN_TOLERATIONS
        )
    ),
}


def helm_chart(version: str, to_yaml: ToYaml) -> dict[str, str]:
    """The files of the chart."""
    about = {
        "apiVersion": "v2",
        "name": "gpuyard",
        "description": "The agents of gpuyard: NVIDIA GPUs, or simulated ones, for pods.",
        "type": "application",
        "version": version,
        "appVersion": version,
        "kubeVersion": ">=1.28.0-0",
    }
    files = {"Chart.yaml": _NOTE + to_yaml([about]), "values.yaml": _values()}
    for name, text in chart(template(), to_yaml, _EXPRESSIONS):
        files[f"templates/{name}"] = text
    return files


def _values() -> str:
    options = InstallOptions("")
    tolerated = " and ".join(each["key"] for each in OWN_TOLERATIONS)
    return f"""{_NOTE}\
# The agent's image, as the nodes pull it: required. `gpuyard install --base` builds one.
image: ""
# Of the agents; the chart makes it. The release itself has to live in another.
namespace: {options.namespace}
# Simulated GPUs for every node, such as "H100:8"; empty for the real ones.
simulate: ""
# How agents reach the driver: runtimeclass (by NVIDIA's container runtime) or privileged.
driverAccess: {options.driver_access}
# How parts of split GPUs (MIG) are offered: none, single or mixed.
migStrategy: {options.mig_strategy}
# How GPUs are shared, split and named: what `gpuyard install --gpu-config` takes, with "version: v1".
gpuConfig: {{}}
# A Python module of the image that finds another vendor's GPUs.
gpuBackend: ""
# Let agents see the processes of their node, to say whose a foreign one on a GPU is.
hostPID: false
# Labels of the nodes that get an agent.
nodeSelector: {json.dumps(dict(options.node_selector))}
# Taints of those nodes that agents are to run in spite of, besides {tolerated}: such as
# [{{key: sku, operator: Equal, value: gpu, effect: NoSchedule}}]; [{{operator: Exists}}] for all taints.
tolerations: []
# Keep pods without a GPU request off nodes with GPUs.
taint: false
# An exporter of metrics for Prometheus beside each agent, on port {METRICS_PORT} of its pod. It is found by a
# PodMonitor where the cluster knows that kind, else by annotations.
metrics: false
# Check tenants' pods at admission; needs Kubernetes 1.30.
policy: false
# Give tenants' containers without GPUs NVIDIA_VISIBLE_DEVICES=void; needs Kubernetes 1.36.
void: false
"""


def kustomize(to_yaml: ToYaml) -> dict[str, str]:
    """The base, and a component for each option."""
    base = InstallOptions(_IMAGE)
    files = {
        "base/kustomization.yaml": _NOTE + to_yaml([_kustomization("Kustomization", ["install.yaml"])]),
        "base/install.yaml": _NOTE + to_yaml(install(base)),
    }
    for name, changes in COMPONENTS.items():
        before = replace(base, **_AFTER.get(name, {}))
        component = _component(install(before), install(replace(before, **changes)), to_yaml)
        files |= {f"components/{name}/{file}": _NOTE + text for file, text in component.items()}
    return files


def _kustomization(kind: str, resources: list[str]) -> dict[str, Any]:
    version = "v1beta1" if kind == "Kustomization" else "v1alpha1"
    head: dict[str, Any] = {"apiVersion": f"kustomize.config.k8s.io/{version}", "kind": kind}
    return {**head, "resources": resources} if resources else head


def _component(old: Sequence[Manifest], new: Sequence[Manifest], to_yaml: ToYaml) -> dict[str, str]:
    """The files of what makes the new manifests of the old ones."""
    files: dict[str, str] = {}
    before = {(m["kind"], key_of(m)): m for m in old}
    after = {(m["kind"], key_of(m)): m for m in new}
    patches: list[dict[str, Any]] = []
    for key, manifest in before.items():
        if key not in after:
            file = f"no-{_file_name(manifest)}"
            gone: dict[str, Any] = {name: manifest[name] for name in ("apiVersion", "kind")}
            gone |= {"metadata": {"name": manifest["metadata"]["name"]}, "$patch": "delete"}
            files[file] = to_yaml([gone])
            patches.append({"path": file})
        elif operations := list(_operations("", manifest, after[key])):
            target = {
                "group": resource_of(manifest).group,
                "kind": manifest["kind"],
                "name": manifest["metadata"]["name"],
            }
            file = _file_name(manifest)
            files[file] = to_yaml([operations])
            patches.append({"target": target, "path": file})
    added = [manifest for key, manifest in after.items() if key not in before]
    if added:
        files["resources.yaml"] = to_yaml(added)
    component = _kustomization("Component", ["resources.yaml"] if added else [])
    files["kustomization.yaml"] = to_yaml([component | ({"patches": patches} if patches else {})])
    return files


def _file_name(manifest: Manifest) -> str:
    return f"{manifest['kind'].lower()}-{manifest['metadata']['name']}.yaml"


def _operations(path: str, old: Any, new: Any) -> Iterator[dict[str, Any]]:
    """JSON Patch from one tree to the other. Items are added to lists at their ends: components add up."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() - new.keys()):
            yield {"op": "remove", "path": f"{path}/{_escape(name)}"}
        for name, value in new.items():
            if name not in old:
                yield {"op": "add", "path": f"{path}/{_escape(name)}", "value": value}
            else:
                yield from _operations(f"{path}/{_escape(name)}", old[name], value)
    elif isinstance(old, list) and isinstance(new, list) and _matches(old, new):
        for number, value in enumerate(old):
            yield from _operations(f"{path}/{number}", value, new[number])
        for value in new[len(old) :]:
            yield {"op": "add", "path": f"{path}/-", "value": value}
    elif old != new:
        yield {"op": "replace", "path": path, "value": new}


def _matches(old: list[Any], new: list[Any]) -> bool:
    """Whether each item is the same one, or a changed one of the same name."""
    named = all(isinstance(item, dict) and "name" in item for item in (*old, *new))
    if len(new) < len(old):
        return False
    if not named:
        return new[: len(old)] == old
    return all(a["name"] == b["name"] for a, b in zip(old, new, strict=False))


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
