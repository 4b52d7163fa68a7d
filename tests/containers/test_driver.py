"""An image gets the node's driver: its loader finds the libraries by their SONAMEs, whatever it brings."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuyard.local.runtime.podman.host import Podman
from tests.containers.conftest import ImageHost, Tiny, write_layout
from tests.fake_driver import VERSION, glibc_image, install, library, program


@pytest.fixture(scope="module")
def image(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """This system's loader and C library, /load, and a driver of the image's own, an older one.

    Its environment leads its loader to a library of its own.
    """
    made, layout = tmp_path_factory.mktemp("image"), tmp_path_factory.mktemp("glibc")
    files, links = glibc_image(made)
    files["opt/own/libown.so"] = library(made / "libown.so", number=1)
    write_layout(
        layout, files, links, {"Entrypoint": ["/load"], "Env": ["PATH=/", "LD_LIBRARY_PATH=/opt/own"]}
    )
    yield f"oci:{layout}:v1"
    remove = ["podman", "rmi", "--force", "--ignore", f"localhost{layout}"]
    subprocess.run(remove, capture_output=True, check=True)


NAMES = ["libcuda.so.1", "libnvidia-ml.so.1", f"libnvidia-gpucomp.so.{VERSION}", "libcuda.so", "libown.so"]
_GPU = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}


async def test_libraries_are_found_by_their_sonames(host: ImageHost, image: str, tmp_path: Path) -> None:
    install(tmp_path)
    async with host.with_gpus("H100:1", driver_root=tmp_path), host.running(devices_due_s=20.0):
        await host.create_in(image, "p", main={"args": NAMES, **_GPU})
        pod = await host.finished("p")
        log = (await host.log("p")).splitlines()
        # Without a GPU an image has what it brings.
        await host.create_in(image, "without", main={"args": ["libcuda.so.1", "libnvidia-ml.so.1"]})
        await host.finished("without")
        own = (await host.log("without")).splitlines()
    assert pod["status"]["phase"] == "Succeeded", pod["status"]
    assert log == [*(f"{name} says 42" for name in NAMES[:-1]), "libown.so says 1"]
    assert own[0] == "libcuda.so.1 says 7"
    assert "cannot open shared object file" in own[1]


async def test_what_comes_is_read_only_and_gains_nobody_anything(
    host: ImageHost, tiny: Tiny, tmp_path: Path
) -> None:
    install(tmp_path)
    program(tmp_path / "usr/bin/nvidia-smi").chmod(0o4755)
    script = "nvidia-smi; grep -c /usr/lib64/lib /proc/self/mountinfo; grep nvidia-smi /proc/self/mountinfo"
    async with host.with_gpus("H100:1", driver_root=tmp_path), host.running(devices_due_s=20.0):
        env = [{"name": "PATH", "value": "/bin:/usr/bin"}]
        await host.create_in(tiny.reference, "p", main={"args": [script], "env": env, **_GPU})
        await host.finished("p")
        said, count, mount = (await host.log("p")).splitlines()
    assert (said, count) == ("a program of the driver", "6")
    assert {"ro", "nosuid", "nodev"} <= set(mount.split()[5].split(","))
