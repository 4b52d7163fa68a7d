"""Real podman, Debian's docker-registry, and one tiny image of busybox."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import secrets
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gpuyard.agent.cdi_file import CdiFile
from gpuyard.agent.options.device_lists import Handover, suitable_lists
from gpuyard.agent.plugin.sockets import OwnSockets
from gpuyard.agent.service import run_agent
from gpuyard.devices.backend import open_backend
from gpuyard.devices.inventory import Backend, Inventory
from gpuyard.devices.nvml.driver_files import find_driver_files
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.kube.objects import PODS, Manifest
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.paths import YardPaths
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.podman.host import Podman
from gpuyard.local.runtime.process.sandbox import no_isolation
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.store import Store
from tests.fake_driver import VERSION
from tests.registry.conftest import docker_registry
from tests.unit.local.kubelet.conftest import NODE, Host, utc_now

_BUSYBOX = Path("/bin/busybox")
_LINKS = ("cat", "df", "echo", "env", "grep", "id", "ls", "nc", "pwd", "sh", "sleep", "touch", "true")


@dataclass(frozen=True)
class Tiny:
    """The image: in the registry under `name`:v1, and as a layout in `layout`, tagged v1.

    Its entrypoint is /bin/sh -c, its command says "the image's own", and its environment has FROM_IMAGE=yes.
    """

    registry: str
    name: str
    layout: Path

    @property
    def reference(self) -> str:
        return f"{self.name}:v1"


@pytest.fixture(scope="session")
def podman() -> Podman:
    found = Podman.find(f"test-{secrets.token_hex(4)}", os.environ["PATH"])
    asyncio.run(found.probe())
    if found.problem:
        pytest.skip(f"{found.problem}: tools/install-system-packages containers")
    return found


@pytest.fixture(scope="session")
def tiny(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    skopeo = shutil.which("skopeo")
    if skopeo is None or not _BUSYBOX.exists():
        pytest.skip("needs skopeo and busybox-static: tools/install-system-packages registry containers")
    layout = tmp_path_factory.mktemp("layout")
    settings = {
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["echo the image\\'s own"],
        "Env": ["PATH=/bin", "FROM_IMAGE=yes"],
    }
    write_layout(layout, {"bin/busybox": _BUSYBOX}, {f"bin/{name}": "busybox" for name in _LINKS}, settings)
    with docker_registry(tmp_path_factory.mktemp("registry")) as registry:
        # A name of its own: podman's storage is the machine's.
        image = Tiny(registry, f"{registry}/test/tiny-{secrets.token_hex(4)}", layout)
        copy = [skopeo, "copy", "--quiet", "--dest-tls-verify=false"]
        subprocess.run([*copy, f"oci:{layout}:v1", f"docker://{image.reference}"], check=True)
        yield image
    # Podman names what comes from a layout after its folder.
    names = [image.reference, f"{image.name}:late", f"localhost{layout}"]
    subprocess.run(["podman", "rmi", "--force", "--ignore", *names], capture_output=True, check=True)


def write_layout(
    folder: Path, files: Mapping[str, Path], links: Mapping[str, str], settings: Mapping[str, Any]
) -> None:
    """An OCI image layout of one layer, tagged v1: paths and what is there, and what a container starts."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for path, content in files.items():
            tar.add(content, path)
        for path, target in links.items():
            link = tarfile.TarInfo(path)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    (folder / "blobs/sha256").mkdir(parents=True)

    def put(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (folder / "blobs/sha256" / digest).write_bytes(content)
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    blob = put(layer.getvalue(), "layer.v1.tar")
    history = {"type": "layers", "diff_ids": [blob["digest"]]}
    config = {"architecture": "amd64", "os": "linux", "config": settings, "rootfs": history}
    manifest = {"schemaVersion": 2, "config": put(_json(config), "config.v1+json"), "layers": [blob]}
    described = put(_json(manifest), "manifest.v1+json")
    described["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
    (folder / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [described]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


class ImageHost(Host):
    """A `Host` whose pods run in images."""

    async def create_in(self, image: str, name: str, **spec: Any) -> Manifest:
        """A pod of one container in this image; `main` has further fields of it."""
        container = {"name": "main", "image": image, **spec.pop("main", {})}
        spec = {"restartPolicy": "Never", "containers": [container], "nodeName": NODE, **spec}
        return await self.api.create(PODS, {"metadata": {"name": name, "namespace": "default"}, "spec": spec})

    @asynccontextmanager
    async def with_gpus(self, simulated: str, driver_root: Path | None = None) -> AsyncIterator[None]:
        """Runs an agent beside.

        Args:
            simulated: the GPUs.
            driver_root: of a driver that makes them real ones; None for none.
        """
        simulation = parse_simulation(simulated)
        find_driver = partial(find_driver_files, driver_root) if driver_root else None
        inventories = (
            _real(simulate(simulation, seed="node"))
            if driver_root
            else open_backend(simulation, seed="node", control=None, driver_root=Path("/")).inventories()
        )
        plugins, cdi = self.paths.device_plugins_dir, CdiFile(self.paths.cdi_dir, lambda: datetime.now(UTC))
        handover = Handover(suitable_lists(has_cdi=True, mounts_name_devices=False))
        sockets = OwnSockets(plugins)
        work = run_agent(inventories, plugins, sockets, cdi=cdi, find_driver=find_driver, handover=handover)
        agent = asyncio.create_task(work, name="agent")
        try:
            yield
        finally:
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)
            await inventories.aclose()


async def _real(inventory: Inventory) -> AsyncGenerator[Inventory, None]:
    """As of NVML, with the nodes of simulated ones."""
    yield replace(inventory, backend=Backend.NVML, driver_version=VERSION)
    await asyncio.Event().wait()


@pytest.fixture
async def host(podman: Podman) -> AsyncIterator[ImageHost]:
    folder = Path(tempfile.mkdtemp(prefix="gy-", dir="/tmp"))
    paths = YardPaths(folder / "data", folder / "run")
    paths.make_folders()
    store = await Store.open(paths.database)
    api = ObjectApi(store, yard_kinds())
    await api.bootstrap()
    runtime = Runtimes(no_isolation("not wanted"), Cgroups(), utc_now, podman=podman)
    try:
        yield ImageHost(api, paths, runtime)
    finally:
        await store.close()
        for journal in paths.pods_dir.glob("*/*/*/journal"):
            found = await runtime.adopt(journal.parent)
            if isinstance(found, Container):
                await found.stop(0)
                await found.wait()
        shutil.rmtree(folder)
