"""One blob's upload in chunks, which asks how far it got before it sends anything again.

Source: OCI distribution-spec 1.1, "Pushing blobs". Two registries differ: docker-registry 2.8 appends
whatever comes and ignores Content-Range, so a repeated chunk would spoil the blob; go-containerregistry
refuses a repeated chunk with 416 and can't tell how far it got.
"""

from __future__ import annotations

import asyncio
import re
from typing import TypeAlias

from gpuyard import errors
from gpuyard.images.oci import Digest
from gpuyard.images.registry.answers import RegistryResponse, error_of
from gpuyard.images.registry.http import Authority, RegistryHttp
from gpuyard.images.registry.urls import Url

_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
_SMALLEST_CHUNK = 1 << 20
_LARGEST_CHUNK = 64 << 20
_SETTLE_S = 2.0

#: What became of a request: an answer, or none.
_Outcome: TypeAlias = RegistryResponse | errors.RegistryUnavailable


class ChunkedUpload:
    """Implements `store.BlobUpload`; holds at most one chunk (and what one write brings) in memory.

    Args:
        http: connections.
        authority: for scopes pull and push.
        start_url: …/blobs/uploads/ of the repository.
        where: repository, as messages call it.
    """

    def __init__(self, http: RegistryHttp, authority: Authority, start_url: Url, where: str) -> None:
        self._http = http
        self._authority = authority
        self._start_url = start_url
        self._where = where
        self._chunk_bytes = http.settings.chunk_bytes
        self._location: Url | None = None
        self._buffer = bytearray()
        self._sent = 0  # bytes that the registry has acknowledged

    async def start(self) -> None:
        """Opens the session; a repeated start leaves an empty session behind, which registries purge."""
        answer = await self._http.request("POST", self._start_url, content=b"", authority=self._authority)
        if answer.status != 202:
            raise error_of(answer, f"starting an upload to {self._where}")
        self._follow(answer)
        least = answer.headers.get("oci-chunk-min-length", "")
        if least.isdecimal():
            self._chunk_bytes = min(max(self._chunk_bytes, int(least)), _LARGEST_CHUNK)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `BlobUpload.write`."""
        self._buffer += data
        while len(self._buffer) > self._chunk_bytes:
            await self._send_chunk()

    async def commit(self, digest: Digest) -> None:
        """See `BlobUpload.commit`; the last chunk travels with the request that ends the upload."""
        attempts = self._http.settings.attempts
        for attempt in range(1, attempts + 1):
            location = self._session()
            url = location.with_parameters({"digest": digest})
            with memoryview(self._buffer) as rest:
                answer = await self._try("PUT", url, rest)
            if not isinstance(answer, errors.RegistryUnavailable):
                if answer.status in (200, 201, 204):
                    self._check(answer, digest)
                    self._location = None
                    return
                if not answer.passing and answer.status != 401:
                    raise self._refused(answer, digest)
            await self._pause(attempt, answer)
            if await self._is_there(digest):
                self._location = None
                return
            if attempt < attempts:
                await self._resume()
        raise self._given_up(answer)

    async def cancel(self) -> None:
        """Drops the session if it is still open; a registry that can't keeps it until it purges."""
        if self._location is not None:
            location, self._location = self._location, None
            try:
                await self._http.request("DELETE", location, authority=self._authority, once=True)
            except errors.ImageError:
                return

    async def _send_chunk(self) -> None:
        """Sends one chunk from the buffer's start; returns once the registry has some or all of it."""
        for attempt in range(1, self._http.settings.attempts + 1):
            length = min(self._chunk_bytes, len(self._buffer))
            content_range = f"{self._sent}-{self._sent + length - 1}"
            with memoryview(self._buffer) as whole, whole[:length] as chunk:
                answer = await self._try("PATCH", self._session(), chunk, content_range)
            status = 0 if isinstance(answer, errors.RegistryUnavailable) else answer.status
            if not isinstance(answer, errors.RegistryUnavailable) and status in (200, 201, 202, 204):
                self._follow(answer)
                self._acknowledge(self._sent + length)
                return
            if status == 413 and self._chunk_bytes > _SMALLEST_CHUNK:
                self._chunk_bytes //= 2
            elif not isinstance(answer, errors.RegistryUnavailable) and status != 416 and not answer.passing:
                raise self._refused(answer)
            else:
                await self._pause(attempt, answer)
            before = self._sent
            await self._resume()
            if self._sent > before:
                return
            if status == 416:
                raise errors.UploadLost(f"uploading to {self._where}: the registry contradicts itself")
        raise self._given_up(answer)

    async def _try(self, method: str, url: Url, content: memoryview, content_range: str = "") -> _Outcome:
        """One attempt; the error when the connection was cut, so that nobody knows what arrived."""
        headers = {"Content-Type": "application/octet-stream"}
        if content_range:
            headers["Content-Range"] = content_range
        sending = asyncio.ensure_future(
            self._http.request(
                method, url, headers=headers, content=content, authority=self._authority, once=True
            )
        )
        try:
            return await asyncio.shield(sending)
        except errors.RegistryUnavailable as error:
            return error
        except asyncio.CancelledError:
            await self._settle(sending)
            raise

    async def _settle(self, sending: asyncio.Future[RegistryResponse]) -> None:
        """Lets a chunk arrive that is on its way when the upload is given up: docker-registry drops no upload
        that has more than it told of, and keeps it for a week."""
        await asyncio.wait([sending], timeout=_SETTLE_S)
        if not sending.done():
            sending.cancel()
        [answer] = await asyncio.gather(sending, return_exceptions=True)
        if isinstance(answer, RegistryResponse) and answer.status in (200, 201, 202, 204):
            self._follow(answer)

    async def _pause(self, attempt: int, answer: _Outcome) -> None:
        """Waits before the next attempt; raises what was the matter when the registry asks for longer."""
        headers = None if isinstance(answer, errors.RegistryUnavailable) else answer.headers
        if not await self._http.pause(attempt, headers):
            raise self._given_up(answer)

    def _given_up(self, answer: _Outcome) -> errors.ImageError:
        if isinstance(answer, errors.RegistryUnavailable):
            return errors.RegistryUnavailable(
                f"uploading to {self._where}: {answer.message}", remedy=answer.remedy
            )
        return error_of(answer, f"uploading to {self._where}")

    async def _resume(self) -> None:
        """Asks how much arrived and drops that from the buffer; raises UploadLost when it can't be told."""
        answer = await self._http.request("GET", self._session(), authority=self._authority)
        match = _RANGE.fullmatch(answer.headers.get("range", ""))
        if answer.status not in (200, 202, 204) or match is None:
            self._location = None
            raise errors.UploadLost(
                f"uploading to {self._where}: it was cut, and the registry can't tell what arrived",
                remedy="run the command again; what is complete isn't uploaded twice",
            )
        self._follow(answer)
        last = int(match[1])
        # An empty upload answers 0-0 as well as one of a single byte; chunks are never that small.
        arrived = last + 1 if last else 0
        if not self._sent <= arrived <= self._sent + len(self._buffer):
            raise errors.UploadLost(
                f"uploading to {self._where}: the registry says it has {arrived} bytes, "
                f"which isn't between {self._sent} and {self._sent + len(self._buffer)}"
            )
        self._acknowledge(arrived)

    async def _is_there(self, digest: Digest) -> bool:
        """Whether a commit whose answer was lost took effect."""
        url = self._start_url.join(f"../{digest}")
        return (await self._http.request("HEAD", url, authority=self._authority)).status == 200

    def _acknowledge(self, arrived: int) -> None:
        del self._buffer[: arrived - self._sent]
        self._sent = arrived

    def _follow(self, answer: RegistryResponse) -> None:
        location = answer.location
        if location:
            self._location = location
        elif self._location is None:
            raise errors.RegistryError(f"starting an upload to {self._where}: the answer names no location")

    def _session(self) -> Url:
        if self._location is None:
            raise errors.UploadLost(f"uploading to {self._where}: no upload is open")
        return self._location

    def _check(self, answer: RegistryResponse, digest: Digest) -> None:
        stored = answer.headers.get("docker-content-digest", digest)
        if stored != digest:
            raise errors.ImageDamaged(f"{self._where} stored {stored} where {digest} was sent")

    def _refused(self, answer: RegistryResponse, digest: Digest | None = None) -> errors.ImageError:
        if answer.status == 404:
            return errors.UploadLost(f"uploading to {self._where}: the registry has forgotten the upload")
        if digest is not None and answer.status == 400 and b"DIGEST_INVALID" in answer.content:
            return errors.ImageDamaged(
                f"uploading to {self._where}: what arrived is not {digest}",
                remedy="run the command again; if it stays so, the source or the way there is damaged",
            )
        return error_of(answer, f"uploading to {self._where}")
