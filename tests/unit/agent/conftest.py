import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest


class NodeApi:
    """A Kubernetes API with one node, on a unix socket: GET and merge-patch, as HTTP/1.1 has them.

    Attributes:
        labels: the node's; None while the node doesn't exist.
        conditions: of its status, by type.
        events: what was written, as type, reason and message.
        annotations, taints: the node's.
        refuses_agents: whether nobody may see that DaemonSet.
        fails_status: whether no status can be written now.
        patched: the path of each patch.
        agents: the DaemonSet gpuyard-system/gpuyard-agent; None where there is none.
        asked: one entry for each request, the method; STATUS for a patch of it, WATCH for what goes on.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.labels: dict[str, str] | None = None
        self.annotations: dict[str, str] = {}
        self.taints: list[dict[str, str]] = []
        self.conditions: dict[str, dict[str, str]] = {}
        self.events: list[tuple[str, str, str]] = []
        self.agents: dict[str, Any] | None = None
        self.refuses_agents = False
        self.fails_status = False
        self.patched: list[str] = []
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self._watches: list[asyncio.StreamWriter] = []

    async def register_anew(self) -> None:
        """The node is deleted and made again, as a kubelet makes it; whoever watches sees it."""
        self.labels, self.annotations, self.taints = {}, {}, []
        _, node = self._reply("GET", "/api/v1/nodes/here", b"")
        event = json.dumps({"type": "ADDED", "object": node}).encode() + b"\n"
        for writer in self._watches:
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _ = head.split(" ", 2)
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if path.startswith("/api/v1/nodes?") and "watch=true" in path:
            assert "fieldSelector=metadata.name%3Dhere" in path
            writer.write(b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n")
            self._watches.append(writer)
            self.asked.put_nowait("WATCH")
            await reader.read()
            self._watches.remove(writer)
            writer.close()
            return
        code, manifest = self._reply(method, path, body)
        payload = json.dumps(manifest).encode()
        writer.write(
            f"HTTP/1.1 {code} x\r\ncontent-type: application/json\r\nconnection: close\r\n"
            f"content-length: {len(payload)}\r\n\r\n".encode()
            + payload
        )
        await writer.drain()
        writer.close()
        self.asked.put_nowait("STATUS" if "/status?" in path else method)

    def _reply(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if method == "PATCH":
            self.patched.append(path.partition("?")[0])
        if self.refuses_agents and "/daemonsets/" in path:
            return 403, {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "you may not"}
        if path.endswith("/namespaces/gpuyard-system/daemonsets/gpuyard-agent") and self.agents:
            return 200, self.agents
        if method == "POST" and path.partition("?")[0] == "/api/v1/namespaces/default/events":
            event = json.loads(body)
            self.events.append((event["type"], event["reason"], event["message"]))
            return 201, event
        if path.partition("?")[0] == "/api/v1/nodes/here/status" and self.fails_status:
            return 500, {"kind": "Status", "code": 500, "reason": "InternalError", "message": "not now"}
        if path.partition("?")[0] == "/api/v1/nodes/here/status":
            for condition in json.loads(body)["status"]["conditions"]:
                self.conditions[condition["type"]] = condition
            return 200, {"metadata": {"name": "here"}}
        if path.partition("?")[0] != "/api/v1/nodes/here" or self.labels is None:
            return 404, {"kind": "Status", "code": 404, "reason": "NotFound", "message": "no such node"}
        if method == "PATCH":
            patch = json.loads(body)
            metadata = patch["metadata"]
            self.taints = patch.get("spec", {}).get("taints", self.taints)
            self.labels = _merged(self.labels, metadata.get("labels", {}))
            self.annotations = _merged(self.annotations, metadata.get("annotations", {}))
        metadata = {"labels": self.labels, "annotations": self.annotations, "resourceVersion": "1"}
        status = {"conditions": list(self.conditions.values())}
        return 200, {
            "metadata": {"name": "here", "uid": "1", **metadata},
            "spec": {"taints": self.taints},
            "status": status,
        }


def _merged(old: dict[str, str], patch: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in (old | patch).items() if value is not None}


@pytest.fixture
async def node_api() -> AsyncIterator[NodeApi]:
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="gy-"))
    api = NodeApi(folder / "api.sock")
    server = await asyncio.start_unix_server(api.answer, api.socket)
    async with server:
        yield api
    shutil.rmtree(folder)
