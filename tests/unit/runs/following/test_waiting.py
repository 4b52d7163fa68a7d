"""What a follower is told of a run that waits, by an API that has nothing to add."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest

from gpuyard.client.rest import RestApi
from gpuyard.runs.following.waiting import Waiting, find_waiting
from gpuyard.runs.run import Run, make_run
from gpuyard.runs.target import Target

IMAGE = "registry.example.com/team/train:v1"


def held(reason: str, message: str = "", *, image: str = IMAGE, **spec: Any) -> Run:
    """A run whose pod has a place, and whose container waits for this reason."""
    labels = {"gpuyard.io/run": "train"}
    pod_spec = {"containers": [{"name": "main", "image": image}], **spec}
    metadata = {"name": "train", "namespace": "team", "uid": "j", "labels": labels}
    job = {
        "metadata": metadata | {"creationTimestamp": "2026-11-23T00:00:00Z"},
        "spec": {"template": {"spec": pod_spec}},
    }
    owner = {"kind": "Job", "name": "train", "uid": "j", "controller": True}
    pod = {
        "metadata": metadata
        | {
            "name": "train-x",
            "uid": "p",
            "ownerReferences": [owner],
            "creationTimestamp": "2026-11-23T00:00:00Z",
        },
        "spec": {**pod_spec, "nodeName": "node-a"},
        "status": {
            "phase": "Pending",
            "containerStatuses": [
                {"name": "main", "state": {"waiting": {"reason": reason, "message": message}}}
            ],
        },
    }
    return make_run(job, [pod])


async def look(run: Run) -> Waiting:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        content = b'{"items": []}'
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(content))
        writer.write(content)
        await writer.drain()
        writer.close()

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        socket = Path(folder, "api")
        async with await asyncio.start_unix_server(nothing, socket), RestApi(unix_socket=socket) as api:
            return await find_waiting(Target(api, "team", is_yard=False), run)


async def test_a_registry_that_wants_to_know_who_asks() -> None:
    message = f'failed to pull and unpack image "{IMAGE}": 401 Unauthorized'
    without = await look(held("ErrImagePull", message))
    headline = "registry registry.example.com doesn't let node node-a pull registry.example.com/team/train:v1"
    assert without.why == f"image: {headline}"
    assert without.advice[:3] == (
        f"train: {headline}",
        "the runtime says: 401 Unauthorized",
        "it was pulled without a Secret",
    )
    assert any("--docker-server=registry.example.com" in line for line in without.advice)
    assert not without.final
    having = await look(held("ErrImagePull", message, imagePullSecrets=[{"name": "a"}, {"name": "b"}]))
    assert having.advice[2] == "it was pulled with the Secret a, b"


async def test_backing_off_says_the_same() -> None:
    """So that the advice comes once, though the kubelet's words change back and forth."""
    message = f'failed to pull and unpack image "{IMAGE}": {IMAGE}: not found'
    tried = await look(held("ErrImagePull", message))
    waits = await look(held("ImagePullBackOff", f'Back-off pulling image "{IMAGE}": ErrImagePull: {message}'))
    assert tried == waits and tried.advice and not tried.final


async def test_what_no_waiting_mends_is_final() -> None:
    waiting = await look(held("InvalidImageName", "invalid reference format", image="Bad/Name"))
    assert waiting.final and waiting.advice[0] == "train: 'Bad/Name' isn't an image's name"


@pytest.mark.parametrize("reason", ["CreateContainerConfigError", "ContainerCreating"])
async def test_other_reasons_come_without_advice(reason: str) -> None:
    waiting = await look(held(reason, "details"))
    assert waiting.advice == () and not waiting.final
