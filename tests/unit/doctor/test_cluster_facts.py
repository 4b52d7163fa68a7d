"""What is asked of a cluster."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpuyard.doctor.check import CheckState
from gpuyard.doctor.cluster import judge
from gpuyard.doctor.cluster_facts import ClusterFacts, look_at_cluster
from gpuyard.doctor.progress import Progress
from gpuyard.doctor.registry import RegistryFact
from gpuyard.kube.objects import Manifest
from gpuyard.tenancy.install import install, resource_of
from gpuyard.tenancy.options import InstallOptions

from .test_cluster import node

KNOWN: dict[str, Any] = {"major": "1", "minor": "34", "status": {"userInfo": {"username": "ann"}}}


async def send(writer: asyncio.StreamWriter, raw: object) -> None:
    """Answers a question, the last of its connection."""
    content = json.dumps(raw).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(content))
    writer.write(content)
    await writer.drain()
    writer.close()


def kubeconfig(folder: Path, listening: asyncio.Server) -> Path:
    """A file whose context `gpu` leads to this server."""
    address = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    config = {
        "clusters": [{"name": "gpu", "cluster": {"server": address}}],
        "contexts": [{"name": "gpu", "context": {"cluster": "gpu"}}],
    }
    file = folder / "config"
    file.write_text(json.dumps(config))
    return file


async def test_an_interrupt_leaves_no_question_behind(tmp_path: Path) -> None:
    """More are waiting for their turn than are asked at once; warnings are errors here."""
    busy, over = asyncio.Event(), asyncio.Event()
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if len(asked) > 2:
            busy.set()
            await over.wait()
        await send(writer, KNOWN)

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        environ = {"KUBECONFIG": str(kubeconfig(tmp_path, listening))}
        task = asyncio.create_task(look_at_cluster("gpu", "ml", RegistryFact(), environ, Progress()))
        await busy.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        over.set()
    gc.collect()


async def look(folder: Path, there: Mapping[str, Sequence[Manifest]]) -> ClusterFacts:
    """At a cluster in which these objects are, by their plural, and everything may be done."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path, _, query = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().partition("?")
        items = [] if "tenant" in query else there.get(path.rpartition("/")[2], ())
        known = {**KNOWN, "status": {**KNOWN["status"], "allowed": True}, "metadata": {"name": "ml"}}
        await send(writer, {**known, "items": list(items)})

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        environ = {"KUBECONFIG": str(kubeconfig(folder, listening)), "HOME": str(folder)}
        return await look_at_cluster("gpu", "ml", RegistryFact(), environ, Progress())


def of_a_tenant(item: Manifest) -> Manifest:
    """The same as a tenant's, who may make DaemonSets and pods, with any labels, in his own namespace."""
    return {**item, "metadata": {**item["metadata"], "namespace": "a-tenant"}}


async def test_what_a_tenant_labels_as_ours_is_not(tmp_path: Path) -> None:
    made: dict[str, list[Manifest]] = {}
    for manifest in install(InstallOptions("127.0.0.1:1/agent:v1", simulate="H100:8")):
        made.setdefault(resource_of(manifest).plural, []).append(manifest)
    (agent,) = made["daemonsets"]
    theirs = of_a_tenant(copy.deepcopy(agent))
    theirs["spec"]["template"]["spec"]["containers"][0]["image"] = "evil.example.com/agent:v1"
    made["daemonsets"].insert(0, theirs)
    pod = {**agent["spec"]["template"], "kind": "Pod"}
    pod["metadata"] = {**pod["metadata"], "name": "agent", "namespace": "gpuyard-system"}
    pod["spec"] = {**pod["spec"], "nodeName": "a"}
    pod["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
    unready = {**of_a_tenant(pod), "status": {}}
    made["pods"] = [pod, unready]
    made["nodes"] = [node("a")]
    agent["status"] = theirs["status"] = {"desiredNumberScheduled": 1}

    report = judge(await look(tmp_path, made))
    assert [check.name for check in report.checks if check.outcome is CheckState.BROKEN] == []
    assert "evil.example.com" not in repr(report)
    assert "a-tenant" not in repr(report)
