"""What `gpuyard status` tells of a cluster: whether gpuyard is installed there, all of it, and works."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import click

from gpuyard.cli.installing import installed, title
from gpuyard.cli.output import print_fields
from gpuyard.client.apply import find
from gpuyard.client.server_version import cluster_version, version_text
from gpuyard.kube.nodes import allocatable_gpus, capacity_gpus, has_simulated_gpus
from gpuyard.kube.objects import (
    DAEMON_SETS,
    NAMESPACES,
    NODES,
    RUNTIME_CLASSES,
    Manifest,
    ObjectKey,
    Resource,
    key_of,
    labels_of,
)
from gpuyard.kube.wellknown import LABEL_GPU_MODEL
from gpuyard.runs.target import Target
from gpuyard.tenancy.conditions import InstallOptions
from gpuyard.tenancy.install import install
from gpuyard.tenancy.names import AGENT, RUNTIME_CLASS


async def cluster_status(target: Target) -> dict[str, Any]:
    """For machines; `missing` names what a half-done install lacks."""
    api = target.api
    # First, since it tells a Kubernetes from another server, whose 404 would be any object's.
    version = await cluster_version(api)
    found, nodes = await asyncio.gather(installed(api), api.list(NODES))
    namespace = next((key_of(item).name for kind, item in found if kind == NAMESPACES), "")
    agent = await find(api, DAEMON_SETS, ObjectKey(namespace, AGENT)) if namespace else None
    return {
        "api": api.server,
        "version": version_text(version),
        "installed": bool(found),
        "namespace": namespace or None,
        "missing": missing_parts(found),
        "image": _image(agent),
        "agents": {
            "ready": (agent or {}).get("status", {}).get("numberReady", 0),
            "wanted": (agent or {}).get("status", {}).get("desiredNumberScheduled", 0),
        },
        "nodes": [_node(node) for node in nodes.items],
    }


def missing_parts(found: Sequence[tuple[Resource, Manifest]]) -> list[str]:
    """What a half-done install lacks, `Kind name`; nothing when there is none at all.

    Args:
        found: every object of an install that is there, with its resource.
    """
    if not found:
        return []
    namespace = next((key_of(item).name for kind, item in found if kind == NAMESPACES), "")
    agent = next((item for kind, item in found if kind == DAEMON_SETS and key_of(item).name == AGENT), None)
    there = {title({"kind": kind.kind, **item}) for kind, item in found}
    return [name for name in _required(namespace, agent) if name not in there]


def _required(namespace: str, agent: Manifest | None) -> list[str]:
    """What each install has, and what this one needs besides."""
    options = InstallOptions(image="", namespace=namespace or InstallOptions("").namespace)
    always = [title(manifest) for manifest in install(options) if manifest["kind"] != RUNTIME_CLASSES.kind]
    pod = agent["spec"]["template"]["spec"] if agent else {}
    return [*always, *([f"RuntimeClass {RUNTIME_CLASS}"] if pod.get("runtimeClassName") else [])]


def _image(agent: Manifest | None) -> str | None:
    return str(agent["spec"]["template"]["spec"]["containers"][0]["image"]) if agent else None


def _node(node: Manifest) -> dict[str, Any]:
    return {
        "name": key_of(node).name,
        "gpu_model": labels_of(node).get(LABEL_GPU_MODEL),
        "simulated": has_simulated_gpus(node),
        "gpus": allocatable_gpus(node),
        "gpus_capacity": capacity_gpus(node),
    }


def print_cluster_status(status: dict[str, Any]) -> None:
    """For people."""
    agents = status["agents"]
    print_fields(
        [
            ("API", status["api"]),
            ("Kubernetes", status["version"]),
            (
                "Installed",
                f"in {status['namespace']}" if status["installed"] else "no: see `gpuyard install`",
            ),
            ("Missing", ", ".join(status["missing"])),
            ("Image", status["image"] or ""),
            ("Agents", f"{agents['ready']} of {agents['wanted']} run" if status["installed"] else ""),
            *(("Node", _describe(node)) for node in status["nodes"]),
        ]
    )
    if status["missing"]:
        click.echo("The install is half done: run `gpuyard install` again to complete it.", err=True)


def _describe(node: dict[str, Any]) -> str:
    simulated = " (simulated)" if node["simulated"] else ""
    sick = node["gpus_capacity"] - node["gpus"]
    gpus = f"{node['gpus']} × {node['gpu_model'] or 'GPU'}{simulated}" if node["gpus"] else "no GPUs"
    return f"{node['name']}: {gpus}" + (f", {sick} not usable" if sick > 0 else "")
