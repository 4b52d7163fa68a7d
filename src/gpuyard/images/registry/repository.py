"""One repository of a registry as an `ImageStore`.

Source: OCI distribution-spec 1.1; mounts by go-containerregistry's rules (crane).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from gpuyard import errors
from gpuyard.images import oci
from gpuyard.images.oci import Descriptor, Digest
from gpuyard.images.registry.answers import RegistryResponse, error_of, read_answer
from gpuyard.images.registry.auth import Authorizer, ScopedAuthority
from gpuyard.images.registry.http import RegistryHttp
from gpuyard.images.registry.uploads import ChunkedUpload
from gpuyard.images.registry.urls import Url
from gpuyard.images.store import Content

_ACCEPT = ", ".join((oci.OCI_INDEX, oci.OCI_MANIFEST, oci.DOCKER_LIST, oci.DOCKER_MANIFEST))


class RegistryStore:
    """Implements `store.ImageStore`; made by `RegistryClient.repository`, whose connections it uses."""

    def __init__(
        self, http: RegistryHttp, authorizer: Authorizer, address: str, registry: str, repository: str
    ) -> None:
        self._http = http
        self._authorizer = authorizer
        self._address = Url.parse(address)
        self._base = Url.parse(f"{address}/v2/{repository}/")
        self._repository = repository
        self.name = f"{registry}/{repository}"
        self._pull = authorizer.scoped(self._address, repository, f"repository:{repository}:pull")
        self._push = authorizer.scoped(self._address, repository, f"repository:{repository}:pull,push")
        self._reader = self._pull

    def for_push(self) -> RegistryStore:
        """Asks for the right to push from the first request on, which saves a second token."""
        self._reader = self._push
        return self

    async def find_manifest(self, target: str) -> Descriptor | None:
        """See `ImageStore.find_manifest`."""
        answer = await self._request("HEAD", f"manifests/{target}", self._reader, {"Accept": _ACCEPT})
        if answer.status == 404:
            return None
        self._expect(answer, 200, f"looking for {self._named(target)}")
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
        digest = answer.headers.get("docker-content-digest") or (target if ":" in target else "")
        size = answer.headers.get("content-length", "")
        if digest and size.isdecimal() and media_type:
            return Descriptor(media_type, oci.parse_digest(digest), int(size))
        return (await self.get_manifest(target))[0]

    async def get_manifest(self, target: str) -> tuple[Descriptor, bytes]:
        """See `ImageStore.get_manifest`."""
        answer = await self._request("GET", f"manifests/{target}", self._reader, {"Accept": _ACCEPT})
        self._expect(answer, 200, f"reading {self._named(target)}")
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
        if media_type == "text/html":
            raise errors.RegistryError(
                f"reading {self._named(target)}: {answer.url.host} answered with a web page",
                remedy="check the registry's name; a proxy or a login page may stand in between",
            )
        found = Descriptor.for_bytes(media_type, answer.content)
        announced = target if ":" in target else answer.headers.get("docker-content-digest", found.digest)
        if found.digest != announced:
            raise errors.ImageDamaged(
                f"{self._named(target)} came as {found.digest} instead of {announced}",
                remedy="a proxy or the registry's storage is damaged; push the image again",
            )
        return found, answer.content

    async def open_blob(self, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        """See `ImageStore.open_blob`; goes on where a cut connection stopped."""
        what = f"reading {self.name}@{blob.digest}"
        sha256, received, failures = hashlib.sha256(), 0, 0
        while received < blob.size or not received:
            start = received
            try:
                async with aclosing(self._read_from(blob, received, what)) as pieces:
                    async for piece in pieces:
                        received += len(piece)
                        if received > blob.size:
                            raise _damaged(what, f"it is longer than {blob.size} bytes")
                        sha256.update(piece)
                        yield piece
                break
            except errors.RegistryUnavailable as error:
                failures = 1 if received > start else failures + 1
                wish = {"retry-after": error.retry_after}
                if failures >= self._http.settings.attempts or not await self._http.pause(failures, wish):
                    raise
        if received != blob.size or f"sha256:{sha256.hexdigest()}" != blob.digest:
            raise _damaged(what, f"{received} of {blob.size} bytes came, or others than pushed")

    async def _read_from(self, blob: Descriptor, start: int, what: str) -> AsyncGenerator[bytes, None]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        url = self._base.join(f"blobs/{blob.digest}")
        async with self._http.stream(url, headers, self._reader) as response:
            if response.status_code not in (200, 206):
                raise error_of(await read_answer(response, self._reader.account), what)
            skip = start if response.status_code == 200 else 0
            async for piece in response.pieces:
                if skip >= len(piece):
                    skip -= len(piece)
                    continue
                yield piece[skip:]
                skip = 0

    async def has_blob(self, digest: Digest, size: int | None = None) -> bool:
        """See `ImageStore.has_blob`; a registry checks what it stores, and would store it no second time."""
        answer = await self._request("HEAD", f"blobs/{digest}", self._reader)
        if answer.status != 404:
            self._expect(answer, 200, f"looking for {self.name}@{digest}")
        return answer.status == 200

    async def put_blob(self, digest: Digest, size: int, content: Content) -> None:
        """See `ImageStore.put_blob`."""
        for attempt in range(1, self._http.settings.attempts + 1):
            try:
                async with self.start_upload() as upload:
                    sent = 0
                    async for piece in content():
                        await upload.write(piece)
                        sent += len(piece)
                    if sent != size:
                        raise errors.ImageDamaged(f"{digest} should have {size} bytes and has {sent}")
                    await upload.commit(digest)
                return
            except errors.UploadLost:
                if attempt == self._http.settings.attempts:
                    raise

    @asynccontextmanager
    async def start_upload(self) -> AsyncIterator[ChunkedUpload]:
        """See `ImageStore.start_upload`."""
        upload = ChunkedUpload(self._http, self._push, self._base.join("blobs/uploads/"), self.name)
        await upload.start()
        try:
            yield upload
        finally:
            await upload.cancel()

    async def mount_blob(self, digest: Digest, from_repository: str) -> bool:
        """See `ImageStore.mount_blob`: any refusal only means that the blob is to be uploaded."""
        both = self._authorizer.scoped(
            self._address,
            self._repository,
            f"repository:{self._repository}:pull,push",
            f"repository:{from_repository}:pull",
        )
        url = self._base.join("blobs/uploads/").with_parameters({"mount": digest, "from": from_repository})
        try:
            answer = await self._http.request("POST", url, content=b"", authority=both, once=True)
            if answer.status == 202 and (session := answer.location):
                await self._http.request("DELETE", session, authority=self._push, once=True)
        except errors.ImageError:
            return False
        return answer.status == 201

    async def put_manifest(self, content: bytes, media_type: str, tag: str | None = None) -> Descriptor:
        """See `ImageStore.put_manifest`; keeps the tag of referrers for a registry without their API."""
        pushed = Descriptor.for_bytes(media_type, content)
        target = tag or pushed.digest
        url = self._base.join(f"manifests/{target}")
        headers = {"Content-Type": media_type}
        answer = await self._http.request("PUT", url, headers=headers, content=content, authority=self._push)
        self._expect(answer, 201, f"writing {self._named(target)}")
        stored = answer.headers.get("docker-content-digest", pushed.digest)
        if stored != pushed.digest:
            raise errors.ImageDamaged(
                f"{self._named(target)} was stored as {stored} instead of {pushed.digest}"
            )
        manifest = oci.parse_manifest(content, media_type)
        if isinstance(manifest, oci.Manifest) and manifest.subject and "oci-subject" not in answer.headers:
            await self._list_referrer(manifest, pushed)
        return pushed

    async def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """See `ImageStore.referrers`."""
        answer = await self._request("GET", f"referrers/{digest}", self._reader, {"Accept": oci.OCI_INDEX})
        if answer.status == 200 and answer.headers.get("content-type", "").startswith(oci.OCI_INDEX):
            index = oci.parse_manifest(answer.content, oci.OCI_INDEX)
            return index.manifests if isinstance(index, oci.Index) else ()
        if answer.status in (401, 403) or answer.passing:
            raise error_of(answer, f"reading the referrers of {self.name}@{digest}")
        return await self._tagged_referrers(digest)

    async def _tagged_referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        try:
            found, content = await self.get_manifest(_referrers_tag(digest))
        except errors.ImageNotFound:
            return ()
        index = oci.parse_manifest(content, found.media_type)
        return index.manifests if isinstance(index, oci.Index) else ()

    async def _list_referrer(self, manifest: oci.Manifest, pushed: Descriptor) -> None:
        """Adds a manifest to its subject's tag; two writers at once may lose one entry, as the spec warns."""
        assert manifest.subject is not None
        subject = manifest.subject.digest
        known = [entry for entry in await self._tagged_referrers(subject) if entry.digest != pushed.digest]
        entry = Descriptor(
            pushed.media_type,
            pushed.digest,
            pushed.size,
            manifest.annotations,
            artifact_type=manifest.artifact_type or manifest.config.media_type,
        )
        index = oci.Index((*known, entry))
        await self.put_manifest(index.to_bytes(), oci.OCI_INDEX, _referrers_tag(subject))

    async def _request(
        self, method: str, path: str, authority: ScopedAuthority, headers: dict[str, str] | None = None
    ) -> RegistryResponse:
        return await self._http.request(method, self._base.join(path), headers=headers, authority=authority)

    def _expect(self, answer: RegistryResponse, status: int, what: str) -> None:
        if answer.status != status:
            raise error_of(answer, what)

    def _named(self, target: str) -> str:
        return f"{self.name}{'@' if ':' in target else ':'}{target}"


def _referrers_tag(digest: Digest) -> str:
    return digest.replace(":", "-")


def _damaged(what: str, why: str) -> errors.ImageDamaged:
    return errors.ImageDamaged(
        f"{what}: {why}", remedy="push it again; if it stays so, a proxy or the registry's storage is damaged"
    )
