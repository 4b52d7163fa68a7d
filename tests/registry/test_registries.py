"""Against registries that others wrote, and read back by skopeo."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gpuyard import errors
from gpuyard.images import oci
from gpuyard.images.layout.store import open_layout
from gpuyard.images.oci import Descriptor, Platform
from gpuyard.images.reference import ImageReference
from gpuyard.images.registry.client import RegistryClient
from gpuyard.images.registry.credentials import Credentials
from gpuyard.images.transfer import Blob, Transferred, ensure_blobs
from tests.registry.conftest import Connect, content_of, docker_registry, push_image, push_stream, read, ref
from tests.registry.tokens import TokenServer

_LAYER = os.urandom(300_000)
_BLOB = Descriptor.for_bytes(oci.OCI_LAYER, _LAYER)
#: bcrypt of "pass word"; docker-registry takes no other kind.
HTPASSWD = "me:$2b$04$abcdefghijklmnopqrstuuFcV8WPKEefLKdOWfX8pW1yTVya21P7a\n"


def skopeo(*argv: str) -> str:
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("needs Debian's skopeo: tools/install-system-packages registry")
    done = subprocess.run([program, "--insecure-policy", *argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=["docker", "crane"])
def registry(request: pytest.FixtureRequest) -> str:
    name: str = request.getfixturevalue(request.param)
    return name


async def test_an_image_comes_back_as_it_was_pushed(registry: str, connect: Connect) -> None:
    store = connect(chunk_bytes=1 << 16).repository(ref(registry, "whole/image"), push=True)
    pushed = await push_image(store, _LAYER)
    assert await store.find_manifest("v1") == pushed
    assert await store.find_manifest("v2") is None
    found, content = await store.get_manifest("v1")
    manifest = oci.parse_manifest(content, found.media_type)
    assert isinstance(manifest, oci.Manifest)
    assert await read(store, manifest.layers[0]) == _LAYER
    seen = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{registry}/whole/image:v1"))
    assert seen["Digest"] == pushed.digest
    assert seen["Layers"] == [_BLOB.digest]


async def test_skopeo_pulls_what_was_pushed(registry: str, connect: Connect, tmp_path: Path) -> None:
    pushed = await push_image(connect().repository(ref(registry, "pull"), push=True), _LAYER)
    source = f"docker://{registry}/pull:v1"
    skopeo("copy", "--src-tls-verify=false", "--preserve-digests", source, f"oci:{tmp_path / 'out'}:v1")
    async with open_layout(tmp_path / "out") as layout:
        assert await layout.find_manifest("v1") == pushed
        assert await read(layout, _BLOB) == _LAYER


async def test_mounts_where_they_are_granted(docker: str, crane: str, connect: Connect) -> None:
    client = connect()
    for registry, outcome in ((docker, Transferred.MOUNTED), (crane, Transferred.PRESENT)):
        await push_image(client.repository(ref(registry, "mount/from"), push=True), _LAYER)
        target = client.repository(ref(registry, "mount/to"), push=True)
        blob = Blob(_BLOB, content_of(_LAYER), mount_from="mount/from")
        # crane keeps the blobs of all repositories together.
        assert await ensure_blobs(target, [blob]) == {_BLOB.digest: outcome}
        assert not await target.mount_blob(oci.digest_of(b"nowhere"), "mount/from")


async def test_referrers_are_found_by_api_or_by_tag(registry: str, connect: Connect) -> None:
    store = connect().repository(ref(registry, "referred"), push=True)
    image = await push_image(store, _LAYER)
    assert await store.referrers(image.digest) == ()
    empty = Descriptor.for_bytes(oci.OCI_EMPTY, b"{}")
    await store.put_blob(empty.digest, 2, content_of(b"{}"))
    kinds = ["application/vnd.cyclonedx+json", "application/vnd.example"]
    for kind in [*kinds, kinds[0]]:
        artifact = oci.Manifest(empty, (empty,), {"kind": kind}, image, kind)
        await store.put_manifest(artifact.to_bytes(), oci.OCI_MANIFEST)
    found = await store.referrers(image.digest)
    assert sorted(entry.artifact_type for entry in found) == kinds
    assert {entry.annotations["kind"] for entry in found} == set(kinds)


async def test_docker_images_are_read(docker: str, connect: Connect) -> None:
    client = connect()
    await push_image(client.repository(ref(docker, "oci"), push=True), _LAYER)
    skopeo(
        "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format", "v2s2",
        f"docker://{docker}/oci:v1", f"docker://{docker}/v2s2:v1",
    )  # fmt: skip
    store = client.repository(ref(docker, "v2s2"))
    found, content = await store.get_manifest("v1")
    assert found.media_type == oci.DOCKER_MANIFEST
    manifest = oci.parse_manifest(content, found.media_type)
    assert isinstance(manifest, oci.Manifest)
    assert manifest.config.as_oci().media_type == oci.OCI_CONFIG
    config = oci.Config.parse(await read(store, manifest.config))
    assert config.platform == Platform("linux", "amd64")


async def test_what_is_missing_is_named(registry: str, connect: Connect) -> None:
    client = connect()
    await push_image(client.repository(ref(registry, "there"), push=True), _LAYER)
    with pytest.raises(errors.ImageNotFound, match=f"reading {registry}/there:nope: not found") as caught:
        await client.repository(ref(registry, "there")).get_manifest("nope")
    assert "tag" in caught.value.remedy
    with pytest.raises(errors.ImageNotFound, match=f"reading {registry}/not/there:v1: not found"):
        await client.repository(ref(registry, "not/there")).get_manifest("v1")
    missing = Descriptor.for_bytes(oci.OCI_LAYER, b"missing")
    with pytest.raises(errors.ImageNotFound, match=f"reading {registry}/there@{missing.digest}"):
        await read(client.repository(ref(registry, "there")), missing)


async def test_basic_auth(tmp_path: Path, connect: Connect) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: here, path: {tmp_path}/htpasswd}}}}\n"
    with docker_registry(tmp_path, auth) as registry:
        pushed = await push_image(
            connect(Credentials("me", "pass word")).repository(ref(registry), push=True), _LAYER
        )
        assert pushed.size
        for wrong in (None, Credentials("me", "wrong")):
            with pytest.raises(errors.ImageUnauthorized, match="wants credentials") as caught:
                await connect(wrong).repository(ref(registry)).get_manifest("v1")
            assert f"docker login {registry}" in caught.value.remedy
            assert "wrong" not in str(caught.value)


async def test_basic_auth_from_dockers_config(tmp_path: Path) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: here, path: {tmp_path}/htpasswd}}}}\n"
    with docker_registry(tmp_path, auth) as registry:
        entry = {"auths": {f"http://{registry}": {"auth": "bWU6cGFzcyB3b3Jk"}}}
        (tmp_path / "config.json").write_text(json.dumps(entry))
        async with RegistryClient.from_environ({"DOCKER_CONFIG": str(tmp_path)}) as client:
            pushed = await push_image(client.repository(ref(registry), push=True), _LAYER)
            assert await client.repository(ref(registry)).get_manifest("v1")
            assert pushed.size


async def test_tokens_of_a_real_registry(tmp_path: Path, connect: Connect) -> None:
    async with TokenServer.running(tmp_path, {"me": "pass word"}) as tokens:
        with docker_registry(tmp_path, tokens.registry_config) as registry:
            client = connect(Credentials("me", "pass word"), chunk_bytes=1 << 16)
            await push_image(client.repository(ref(registry, "one"), push=True), _LAYER)
            target = client.repository(ref(registry, "two"), push=True)
            assert await target.mount_blob(_BLOB.digest, "one")
            assert [sorted(scopes, reverse=True) for scopes in tokens.asked[:2]] == [
                ["repository:one:pull,push"],
                ["repository:two:pull,push", "repository:one:pull"],
            ]
            with pytest.raises(errors.ImageUnauthorized, match="getting a token"):
                await connect(Credentials("me", "no")).repository(ref(registry, "one")).get_manifest("v1")
            with pytest.raises(errors.ImageUnauthorized):  # the server gives strangers no rights
                await connect().repository(ref(registry, "one")).get_manifest("v1")


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """docker-registry with a certificate of its own; yields HOST:PORT and the certificate's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    http = f", tls: {{certificate: {tmp_path}/cert.pem, key: {tmp_path}/key.pem}}"
    with docker_registry(tmp_path, http=http) as registry:
        yield registry, tmp_path / "cert.pem"


async def test_https_on_loopback_with_an_authority_of_ones_own(
    tls: tuple[str, Path], connect: Connect
) -> None:
    registry, certificate = tls
    await push_image(connect(ca_file=certificate).repository(ref(registry), push=True), _LAYER)
    with pytest.raises(
        errors.RegistryError, match=r"certificate of .* is not trusted: self.signed"
    ) as caught:
        await connect().repository(ref(registry)).get_manifest("v1")
    assert "--registry-ca" in caught.value.remedy
    with pytest.raises(errors.UsageError, match="can't be read"):
        await (
            connect(ca_file=certificate.with_name("none.pem"))
            .repository(ref(registry))
            .has_blob(_BLOB.digest)
        )


async def test_plain_http_elsewhere_is_only_spoken_when_asked_for(
    docker: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = docker.rpartition(":")[2]
    away = ImageReference.parse(f"registry.test:{port}/away")
    monkeypatch.setattr("socket.getaddrinfo", _resolve_to_loopback)
    with pytest.raises(errors.RegistryError, match="doesn't speak TLS") as caught:
        await connect().repository(away).get_manifest("v1")
    assert f"--plain-http registry.test:{port}" in caught.value.remedy
    await push_image(connect(plain_http=frozenset({f"registry.test:{port}"})).repository(away), _LAYER)


def _resolve_to_loopback(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


class Scissors:
    """A way to a registry that ends the nth connections after so many bytes from the client."""

    def __init__(self, registry: str, cuts: dict[int, int]) -> None:
        self._port = int(registry.rpartition(":")[2])
        self._cuts = cuts
        self._relays: set[asyncio.Task[None]] = set()
        self.made = 0
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for relay in self._relays:
                relay.cancel()
            await asyncio.gather(*self._relays, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._relays.add(asyncio.create_task(self._relay(reader, writer), name="relay"))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made += 1
        left = self._cuts.get(self.made)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.create_task(_pump(far_reader, writer, None), name="answers")
        try:
            await _pump(reader, far_writer, left)
        finally:
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
            for side in (writer, far_writer):
                side.transport.abort()
                with suppress(ConnectionError):
                    await side.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None) -> None:
    with suppress(ConnectionError):
        while (left is None or left > 0) and (data := await reader.read(min(left or 65536, 65536))):
            writer.write(data)
            await writer.drain()
            left = None if left is None else left - len(data)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_push_survives_cut_connections(registry: str, connect: Connect, stream: bool) -> None:
    layer = os.urandom(6 << 20)
    # The second cut comes within a chunk, the third within another.
    scissors = Scissors(registry, {1: 100, 2: 1_500_000, 3: 700_000})
    async with scissors.open():
        name = f"cut/{stream}".lower()
        store = connect(chunk_bytes=1 << 20).repository(ref(f"127.0.0.1:{scissors.port}", name), push=True)
        if stream:
            blob = await push_stream(store, layer)
        else:
            blob = Descriptor.for_bytes(oci.OCI_LAYER, layer)
            await store.put_blob(blob.digest, blob.size, content_of(layer))
        assert scissors.made > 3
        found = await read(connect().repository(ref(registry, name)), blob)
        assert (gzip.decompress(found) if stream else found) == layer
