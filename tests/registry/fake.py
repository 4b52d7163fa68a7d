"""A small, strict registry in this process that fails on request: cuts, expired tokens, 429, 5xx."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

_UPLOAD = re.compile(r"/v2/(.+)/blobs/uploads/(\d*)")
_BLOB = re.compile(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/([^/]+)")


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Response:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Fault:
    """What goes wrong, `times` times, for requests whose "METHOD path" matches.

    keep: bytes of the body that arrive before the connection is cut; answer: sent instead of the work;
    after: the work is done and the connection is cut before the answer; send: bytes of the answer's body
    that are sent before the cut; hang: nothing comes any more where a cut would be, until the client leaves;
    hold: the work is done, and the answer waits for it.
    """

    pattern: str
    times: int = 1
    keep: int | None = None
    answer: Response | None = None
    after: bool = False
    send: int | None = None
    hang: bool = False
    hold: asyncio.Event | None = None


class FakeRegistry:
    """Serves on a free loopback port; `log` is each request as "METHOD path", in order."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.log: list[str] = []
        self.requests: list[Request] = []
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.sessions = 0
        self.status_known = True
        self.most_chunk: int | None = None
        self.token_uses: int | None = None  # with tokens: how many requests one is good for
        self.expires_in = 300
        self.user = ""  # with tokens: required of the token server as "user:password"
        self.tokens: dict[str, int] = {}
        self.redirect = ""
        self.hanging = 0  # how many requests met a fault that hangs
        self.port = 0
        self._server: asyncio.Server | None = None

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def count(self, pattern: str) -> int:
        return sum(bool(re.search(pattern, line)) for line in self.log)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *rows = head.strip().split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value for name, value in (row.split(": ", 1) for row in rows)}
        parts = urlsplit(target)
        request = Request(method, parts.path, parse_qs(parts.query), headers)
        self.log.append(f"{method} {parts.path}")
        self.requests.append(request)
        fault = self._fault(f"{method} {parts.path}")
        length = int(headers.get("content-length", 0))
        if fault and fault.keep is not None:
            request.body = await reader.readexactly(min(fault.keep, length))
            self._store_part(request)
            writer.transport.abort()
            return False
        request.body = await reader.readexactly(length)
        if fault and fault.hang and fault.send is None:
            await self._hang(reader)
            return False
        response = fault.answer if fault and fault.answer else self._answer(request)
        if fault and fault.hold:
            self.hanging += 1
            await fault.hold.wait()
        if fault and fault.after:
            writer.transport.abort()
            return False
        await self._write(writer, request, response, fault.send if fault else None)
        if fault and fault.hang:
            await self._hang(reader)
        return fault is None or fault.send is None

    async def _hang(self, reader: asyncio.StreamReader) -> None:
        self.hanging += 1
        await reader.read(1)

    def _fault(self, line: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and re.search(fault.pattern, line):
                fault.times -= 1
                return fault
        return None

    async def _write(
        self, writer: asyncio.StreamWriter, request: Request, response: Response, send: int | None
    ) -> None:
        headers = {"Content-Length": str(len(response.body))} | response.headers
        lines = [f"HTTP/1.1 {response.status} X", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        body = b"" if request.method == "HEAD" else response.body[:send]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    def _store_part(self, request: Request) -> None:
        match = _UPLOAD.fullmatch(request.path)
        if match and match[2] in self.uploads and request.method == "PATCH":
            self.uploads[match[2]] += request.body

    def _answer(self, request: Request) -> Response:
        if request.path == "/token":
            return self._token(request)
        if (self.token_uses is not None) and not self._admitted(request):
            scope = 'scope="repository:a:push,pull"'
            challenge = f'Bearer realm="http://{self.name}/token",service="fake",{scope}'
            return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})
        for pattern, handle in self._routes().items():
            if match := pattern.fullmatch(request.path):
                return handle(request, match[1], match[2])
        return _error(404, "UNSUPPORTED")

    def _routes(self) -> dict[re.Pattern[str], Callable[[Request, str, str], Response]]:
        return {_UPLOAD: self._upload, _BLOB: self._blob, _MANIFEST: self._manifest}

    def _token(self, request: Request) -> Response:
        expected = "Basic " + base64.b64encode(self.user.encode()).decode()
        if self.user and request.headers.get("authorization") != expected:
            return _error(401, "UNAUTHORIZED")
        assert self.token_uses is not None
        token = f"secret-token-{len(self.tokens)}"
        self.tokens[token] = self.token_uses
        return Response(200, {}, json.dumps({"token": token, "expires_in": self.expires_in}).encode())

    def _admitted(self, request: Request) -> bool:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.tokens[token] = self.tokens.get(token, 0) - 1
        return self.tokens[token] >= 0

    def _upload(self, request: Request, repository: str, session: str) -> Response:
        def here(size: int) -> dict[str, str]:
            return {"Location": f"/v2/{repository}/blobs/uploads/{session}?_state={size}"}

        if request.method == "POST":
            if "mount" in request.query:
                digest = request.query["mount"][0]
                if (request.query["from"][0], digest) in self.blobs:
                    self.blobs[repository, digest] = self.blobs[request.query["from"][0], digest]
                    return Response(201, {"Location": f"/v2/{repository}/blobs/{digest}"})
            self.sessions += 1
            session = str(self.sessions)
            self.uploads[session] = b""
            return Response(202, here(0))
        if session not in self.uploads:
            return _error(404, "BLOB_UPLOAD_UNKNOWN")
        held = self.uploads[session]
        if request.method == "DELETE" and request.query.get("_state") != [str(len(held))]:
            # As docker-registry: what it has isn't what it told last.
            return _error(404, "BLOB_UPLOAD_INVALID")
        if request.method == "GET":
            if not self.status_known:
                return _error(405, "UNSUPPORTED")
            return Response(204, here(len(held)) | {"Range": f"0-{max(len(held) - 1, 0)}"})
        if request.method == "DELETE":
            del self.uploads[session]
            return Response(204)
        if self.most_chunk is not None and len(request.body) > self.most_chunk:
            return _error(413, "SIZE_INVALID")
        if request.method == "PATCH":
            start = int(request.headers["content-range"].partition("-")[0])
            if start != len(held):
                return _error(416, "RANGE_INVALID")
            self.uploads[session] = held + request.body
            return Response(
                202, here(len(held + request.body)) | {"Range": f"0-{len(held + request.body) - 1}"}
            )
        digest = request.query["digest"][0]
        content = held + request.body
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            return _error(400, "DIGEST_INVALID")
        del self.uploads[session]
        self.blobs[repository, digest] = content
        return Response(201, {"Docker-Content-Digest": digest})

    def _blob(self, request: Request, repository: str, digest: str) -> Response:
        if (repository, digest) not in self.blobs:
            return _error(404, "BLOB_UNKNOWN")
        if self.redirect:
            return Response(307, {"Location": f"{self.redirect}{request.path}"})
        content = self.blobs[repository, digest]
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        return Response(206 if start else 200, {"Docker-Content-Digest": digest}, content[start:])

    def _manifest(self, request: Request, repository: str, target: str) -> Response:
        if request.method == "PUT":
            named = json.loads(request.body)
            blobs = [named["config"], *named["layers"]] if "config" in named else []
            if any((repository, blob["digest"]) not in self.blobs for blob in blobs):
                return _error(400, "MANIFEST_BLOB_UNKNOWN")
            digest = f"sha256:{hashlib.sha256(request.body).hexdigest()}"
            for name in (target, digest):
                self.manifests[repository, name] = request.headers["content-type"], request.body
            return Response(201, {"Docker-Content-Digest": digest})
        if (repository, target) not in self.manifests:
            return _error(404, "MANIFEST_UNKNOWN")
        media_type, content = self.manifests[repository, target]
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return Response(200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, content)


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps({"errors": [{"code": code, "message": f"{code.lower()} said"}]}).encode()
    return Response(status, headers or {}, body)
