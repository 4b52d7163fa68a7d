"""Following without a terminal: events of a run's life, ended by whoever iterates."""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import aclosing
from pathlib import Path
from typing import Any

from gpuyard.client.rest import RestApi
from gpuyard.runs.following.pod_log import Output
from gpuyard.runs.following.run_events import AttemptBegan, Ended, Waits, follow
from gpuyard.runs.target import Target

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


async def test_a_run_that_is_over_is_one_attempt_with_its_output() -> None:
    served = Api(job("Complete"), ended_pod())
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        socket = Path(folder, "api")
        async with await asyncio.start_unix_server(served.handle, socket), RestApi(unix_socket=socket) as api:
            events = [event async for event in follow(Target(api, "n", is_yard=True), "a")]
    assert events[:2] == [AttemptBegan(1, is_only=True), Output(b"hi\n")]
    [end] = events[2:]
    assert isinstance(end, Ended) and end.run.state.state == "succeeded"


async def test_who_has_heard_enough_leaves_and_no_task_stays_behind() -> None:
    served = Api(job())
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        socket = Path(folder, "api")
        async with await asyncio.start_unix_server(served.handle, socket), RestApi(unix_socket=socket) as api:
            async with aclosing(follow(Target(api, "n", is_yard=True), "a", refresh_s=1)) as events:
                event = await anext(events)
            assert isinstance(event, Waits) and event.run.state.state == "pending"
            names = {task.get_name() for task in asyncio.all_tasks()}
            assert not any(name.startswith(("watch", "first list")) for name in names)
