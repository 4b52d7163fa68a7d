"""Following without a terminal: events of a run's life, ended by whoever iterates."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gpuyard.client.rest import RestApi
from gpuyard.runs.following.pod_log import Output
from gpuyard.runs.following.run_events import (
    AttemptBegan,
    CutShort,
    Ended,
    Waits,
    follow,
    read_logs,
)
from gpuyard.runs.run import make_run
from gpuyard.runs.target import Target
from gpuyard.workloads.pod_failure_policy import retry_fields

MOMENT = "2026-01-31T12:00:00Z"
LABELS = {"gpuyard.io/run": "a"}
OWNER = {"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "j", "controller": True}


def metadata(name: str, **more: Any) -> dict[str, Any]:
    common = {"namespace": "n", "uid": name, "resourceVersion": "1", "creationTimestamp": MOMENT}
    return {"name": name, "labels": LABELS, **common, **more}


def job(*conditions: str) -> dict[str, Any]:
    spec = {"template": {"spec": {"containers": [{"name": "main"}]}}}
    status = {"conditions": [{"type": type_, "status": "True"} for type_ in conditions]}
    return {"metadata": metadata("a", uid="j"), "spec": spec, "status": status}


def ended_pod() -> dict[str, Any]:
    state = {"terminated": {"exitCode": 0, "finishedAt": MOMENT}}
    status = {
        "phase": "Succeeded",
        "containerStatuses": [{"name": "main", "state": state, "restartCount": 0}],
    }
    return {"metadata": metadata("a-x", ownerReferences=[OWNER]), "spec": {"nodeName": "n"}, "status": status}


class Api:
    """Serves one Job with its pods and their log, and watches in which nothing happens."""

    def __init__(self, job: dict[str, Any], *pods: dict[str, Any]) -> None:
        self.lists = {"jobs": [job], "pods": list(pods)}

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        place, _, query = path.partition("?")
        if "watch" in query:
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            await writer.drain()
            await reader.read()
            writer.close()
            return
        name = place.rpartition("/")[2]
        if name == "log":
            text = b"hi\n"
        elif name in self.lists:
            text = json.dumps({"metadata": {"resourceVersion": "1"}, "items": self.lists[name]}).encode()
        else:  # a list of nobody's, or the pod
            pods = [pod for pod in self.lists["pods"] if pod["metadata"]["name"] == name]
            text = json.dumps(pods[0] if pods else {"metadata": {}, "items": []}).encode()
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nGpuyard-Version: 1\r\n"
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(text) + text)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def served(job: dict[str, Any], *pods: dict[str, Any]) -> AsyncIterator[Target]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        socket, handle = Path(folder, "api"), Api(job, *pods).handle
        async with await asyncio.start_unix_server(handle, socket), RestApi(unix_socket=socket) as api:
            yield Target(api, "n", is_yard=True)


async def test_a_run_that_is_over_is_one_attempt_with_its_output() -> None:
    async with served(job("Complete"), ended_pod()) as target:
        events = [event async for event in follow(target, "a")]
    assert events[:2] == [AttemptBegan(1, is_only=True), Output(b"hi\n")]
    [end] = events[2:]
    assert isinstance(end, Ended) and end.run.state.state == "succeeded"


@pytest.mark.parametrize(
    ("fields", "is_stopped", "follows"),
    [(retry_fields(0), False, True), ({"backoffLimit": 0}, False, False), (retry_fields(0), True, False)],
)
async def test_a_next_attempt_is_told_of_only_where_one_follows(
    fields: dict[str, Any], is_stopped: bool, follows: bool
) -> None:
    drained = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    initialized = {"type": "Initialized", "status": "True"}
    own, pod = job(), ended_pod()
    own["spec"] |= fields
    if is_stopped:
        own["metadata"]["annotations"] = {"gpuyard.io/stopped-at": MOMENT}
    pod["status"] |= {"phase": "Failed", "conditions": [initialized, drained]}
    async with served(own, pod) as target:
        events = [event async for event in read_logs(target, make_run(own, [pod]))]
    assert Output(b"hi\n") in events
    assert any(isinstance(event, CutShort) for event in events) == follows


async def test_who_has_heard_enough_leaves_and_no_task_stays_behind() -> None:
    async with served(job()) as target:
        async with aclosing(follow(target, "a", refresh_s=1)) as events:
            event = await anext(events)
        assert isinstance(event, Waits) and event.run.state.state == "pending"
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert not any(name.startswith(("watch", "first list")) for name in names)
