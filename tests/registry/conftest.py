from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpuyard.building.layers.layer_upload import upload_new
from gpuyard.images import oci
from gpuyard.images.layers import Packer, compression
from gpuyard.images.oci import Descriptor
from gpuyard.images.reference import ImageReference
from gpuyard.images.registry.client import RegistryClient
from gpuyard.images.registry.credentials import Credentials
from gpuyard.images.registry.http import RegistryHttp
from gpuyard.images.registry.settings import RegistrySettings
from gpuyard.images.store import Content, ImageStore
from tests.registry.fake import FakeRegistry
from tests.waiting import until

_CRANE = "github.com/google/go-containerregistry/cmd/crane@v0.19.1"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpuyard-test"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    argv: list[str], port: int, log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Runs a server until it accepts connections, and ends it afterwards."""
    with serving_on(argv, ("127.0.0.1", port), log, environ):
        yield


@contextmanager
def serving_on(
    argv: list[str], address: tuple[str, int] | Path, log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[None]:
    """The same for one that listens on a port or on a Unix socket."""
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with log.open("wb") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, env=environ)
        try:

            def listens() -> bool:
                assert process.poll() is None, log.read_text()
                with socket.socket(family) as probe:
                    probe.settimeout(1)
                    probe.connect(str(address) if isinstance(address, Path) else address)
                return True

            # Nothing tells when another program starts to listen.
            until(listens, f"{argv[0]} listens (its log: {log})", not_yet=OSError)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@contextmanager
def docker_registry(folder: Path, auth: str = "", http: str = "") -> Iterator[str]:
    """Debian's docker-registry on a free port; yields HOST:PORT."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("needs Debian's docker-registry: tools/install-system-packages registry")
    port = free_port()
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
        f'http: {{addr: "127.0.0.1:{port}"{http}}}\n{auth}'
    )
    environ = {"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"}
    with serving([program, "serve", str(config)], port, folder / "log", environ):
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("docker")) as registry:
        yield registry


@pytest.fixture(scope="session")
def crane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """go-containerregistry's registry, which is strict about ranges and refuses mounts."""
    program = _CACHE / "crane"
    if not program.exists():
        go = shutil.which("go")
        if go is None:
            pytest.skip("needs go to build crane")
        _CACHE.mkdir(parents=True, exist_ok=True)
        environ = os.environ | {"GOBIN": str(_CACHE)}
        built = subprocess.run([go, "install", _CRANE], env=environ, capture_output=True, text=True)
        if built.returncode:
            pytest.skip(f"go can't build crane: {built.stderr[-300:]}")
    port = free_port()
    log = tmp_path_factory.mktemp("crane") / "log"
    with serving([str(program), "registry", "serve", "--address", f"127.0.0.1:{port}"], port, log):
        yield f"127.0.0.1:{port}"


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    registry = FakeRegistry()
    await registry.start()
    yield registry
    await registry.stop()


class Known:
    """Credentials of one user for every registry."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        self.credentials = credentials

    async def find(self, registry: str, repository: str = "") -> Credentials | None:
        return self.credentials


class Pauses(list[float]):
    """Stands for sleep: notes how long, and goes on at once."""

    async def sleep(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


Connect = Callable[..., RegistryClient]


@pytest.fixture
async def connect(pauses: Pauses) -> AsyncIterator[Connect]:
    """Makes clients that pause for no time; closes them."""
    made: list[RegistryClient] = []

    def make(credentials: Credentials | None = None, **settings: object) -> RegistryClient:
        chosen = RegistrySettings(**settings)  # type: ignore[arg-type]
        http = RegistryHttp(chosen, sleep=pauses.sleep, jitter=lambda: 0.0)
        made.append(RegistryClient(chosen, Known(credentials), http=http))
        return made[-1]

    yield make
    for client in made:
        await client.__aexit__(None, None, None)


def ref(registry: str, rest: str = "a") -> ImageReference:
    return ImageReference.parse(f"{registry}/{rest}")


def content_of(data: bytes, piece: int = 1 << 16) -> Content:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), piece):
            yield data[start : start + piece]

    return pieces


async def push_image(store: ImageStore, layer: bytes, tag: str | None = "v1") -> Descriptor:
    """A one-layer image; its layer is no real tar."""
    config = oci.Config(oci.Platform("linux", "amd64"), diff_ids=(oci.digest_of(layer),)).to_bytes()
    parts = (
        (Descriptor.for_bytes(oci.OCI_CONFIG, config), config),
        (Descriptor.for_bytes(oci.OCI_LAYER, layer), layer),
    )
    for blob, data in parts:
        await store.put_blob(blob.digest, blob.size, content_of(data))
    manifest = oci.Manifest(parts[0][0], (parts[1][0],))
    return await store.put_manifest(manifest.to_bytes(), oci.OCI_MANIFEST, tag)


async def push_stream(store: ImageStore, tar: bytes) -> Descriptor:
    """Packs a layer straight into the store, as a build does with one that it doesn't know yet."""
    return (await upload_new(store, lambda: Packer([tar], compression()), lambda size: None)).blob


async def read(store: ImageStore, blob: Descriptor) -> bytes:
    return b"".join([piece async for piece in store.open_blob(blob)])
