"""Driver roots of all layouts, with real libraries."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from gpuyard.devices.nvml.driver_files import DriverFile, driver_root_in, find_driver_files
from gpuyard.elf import AARCH64
from tests.fake_driver import VERSION, install, library, of_machine, program

DEBIAN, LIB64 = "/usr/lib/x86_64-linux-gnu", "/usr/lib64"


def find(root: Path, version: str = VERSION, machine: str = "x86_64") -> dict[str, str]:
    """Container path → path below the root."""
    found = find_driver_files(root, version, machine=machine)
    assert all(file.host_path.startswith(f"{root}/") for file in found)
    return {file.container_path: file.host_path.removeprefix(f"{root}/") for file in found}


def libraries(found: dict[str, str]) -> dict[str, str]:
    """Of those that containers have in /usr/lib64: file name → path below the root."""
    return {
        path.removeprefix(f"{LIB64}/"): there for path, there in found.items() if path.startswith(f"{LIB64}/")
    }


@pytest.mark.parametrize(
    "folder",
    [
        "usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib", "usr/lib64/nvidia",
        "usr/lib/x86_64-linux-gnu/nvidia/current",
    ],
)  # fmt: skip
def test_each_library_by_its_names_where_every_loader_looks(tmp_path: Path, folder: str) -> None:
    install(tmp_path, folder=folder)
    cuda = f"{folder}/libcuda.so.{VERSION}"
    found = find(tmp_path)
    assert libraries(found) == {
        f"libcuda.so.{VERSION}": cuda,
        "libcuda.so.1": cuda,
        "libcuda.so": cuda,
        f"libnvidia-ml.so.{VERSION}": f"{folder}/libnvidia-ml.so.{VERSION}",
        "libnvidia-ml.so.1": f"{folder}/libnvidia-ml.so.{VERSION}",
        f"libnvidia-gpucomp.so.{VERSION}": f"{folder}/libnvidia-gpucomp.so.{VERSION}",
    }
    for name, there in libraries(found).items():
        assert found[f"{DEBIAN}/{name}"] == there


def test_programs_firmware_and_sockets(tmp_path: Path) -> None:
    install(tmp_path)
    program(tmp_path / "usr/sbin/nvidia-persistenced")
    (tmp_path / "usr/bin/nvidia-debugdump").write_text("not to be executed")
    (tmp_path / "run/nvidia-persistenced").mkdir(parents=True)
    (tmp_path / "run/nvidia-fabricmanager").mkdir()
    (tmp_path / "run/nvidia-fabricmanager/socket").write_text("no socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "run/nvidia-persistenced/socket"))
    others = {
        file.container_path: file
        for file in find_driver_files(tmp_path, VERSION, machine="x86_64")
        if "/libcuda" not in file.container_path and "/libnvidia" not in file.container_path
    }
    firmware = f"firmware/nvidia/{VERSION}/gsp_ga10x.bin"
    persistenced = "/run/nvidia-persistenced/socket"
    assert others == {
        path: DriverFile(f"{tmp_path}{there}", path, is_socket)
        for path, there, is_socket in (
            ("/usr/bin/nvidia-smi", "/usr/bin/nvidia-smi", False),
            ("/usr/bin/nvidia-persistenced", "/usr/sbin/nvidia-persistenced", False),
            (f"/lib/{firmware}", f"/usr/lib/{firmware}", False),
            (persistenced, persistenced, True),
        )
    }


def test_only_this_machines_libraries_of_this_version(tmp_path: Path) -> None:
    folder = install(tmp_path, folder="usr/lib64")
    before = find(tmp_path)
    library(folder / "libcuda.so.535.1", "libcuda.so.1")
    library(tmp_path / f"usr/lib/libnvidia-old.so.{VERSION}", "libnvidia-old.so.1", bits=32)
    of_machine(library(folder / f"libnvidia-arm.so.{VERSION}", "libnvidia-arm.so.1"), AARCH64)
    (folder / f"libnvidia-text.so.{VERSION}").write_text("GROUP ( libcuda.so )")
    (folder / f"libnvidia-empty.so.{VERSION}").touch()
    (folder / f"libnvidia-folder.so.{VERSION}").mkdir()
    (folder / f"libnvidia-gone.so.{VERSION}").symlink_to("nowhere")
    os.mkfifo(folder / f"libnvidia-pipe.so.{VERSION}")
    library(folder / f"libnvidia a\nb.so.{VERSION}", "libnvidia-odd.so.1")
    assert find(tmp_path) == before


def test_a_soname_that_is_a_path_is_no_name(tmp_path: Path) -> None:
    library(tmp_path / f"usr/lib64/libcuda.so.{VERSION}", "../../../etc/ld.so.preload")
    assert set(libraries(find(tmp_path))) == {f"libcuda.so.{VERSION}"}


def test_the_roots_own_loader_says_where_it_is(tmp_path: Path) -> None:
    ldconfig = shutil.which("ldconfig", path="/sbin:/usr/sbin")
    if ldconfig is None:
        pytest.skip("no ldconfig")
    install(tmp_path, folder="opt/driver/lib")
    assert find(tmp_path) == {}
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.conf").write_text("/opt/driver/lib\n")
    subprocess.run([ldconfig, "-X", "-r", str(tmp_path)], check=True)
    assert libraries(find(tmp_path))["libcuda.so.1"] == f"opt/driver/lib/libcuda.so.{VERSION}"
    cache = tmp_path / "etc/ld.so.cache"
    content = cache.read_bytes()
    # Older systems have a cache of an older format before it; a damaged one says nothing.
    cache.write_bytes(b"ld.so-1.7.0\0\0\0\0\0" + content)
    assert "libcuda.so.1" in libraries(find(tmp_path))
    for size in (0, 30, 60, len(content) - 200):
        cache.write_bytes(content[:size])
        find(tmp_path)
    cache.write_bytes(content[:20] + b"\xff" * 28 + content[48:])
    find(tmp_path)


def test_links_lead_within_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    outside = library(tmp_path / f"outside/libnvidia-out.so.{VERSION}", "libnvidia-out.so.1")
    folder = install(root, folder="driver/lib")
    (root / "usr/lib64").symlink_to("/driver/lib")
    (folder / f"libnvidia-out.so.{VERSION}").symlink_to(outside)
    (folder / f"libnvidia-up.so.{VERSION}").symlink_to(f"../../../outside/libnvidia-out.so.{VERSION}")
    (folder / f"libnvidia-loop.so.{VERSION}").symlink_to(f"libnvidia-loop.so.{VERSION}")
    (folder / f"libnvidia-real.so.{VERSION}").symlink_to(f"/driver/lib/libcuda.so.{VERSION}")
    found = libraries(find(root))
    assert found["libcuda.so.1"] == f"driver/lib/libcuda.so.{VERSION}"
    assert found[f"libnvidia-real.so.{VERSION}"] == f"driver/lib/libcuda.so.{VERSION}"
    assert not {"out", "up", "loop"} & {name.split(".")[0].removeprefix("libnvidia-") for name in found}


def test_wsl(tmp_path: Path) -> None:
    lib, store = tmp_path / "usr/lib/wsl/lib", tmp_path / "usr/lib/wsl/drivers/nv.inf_amd64_1"
    library(lib / "libcuda.so.1", "libcuda.so.1")
    library(lib / "libdxcore.so", "libdxcore.so")
    library(store / "libcuda.so.1.1", "libcuda.so.1")
    program(lib / "nvidia-smi")
    found = find(tmp_path)
    assert set(libraries(found)) == {"libcuda.so", "libcuda.so.1", "libdxcore.so"}
    assert found["/usr/lib/wsl/drivers"] == "usr/lib/wsl/drivers"
    assert found["/usr/bin/nvidia-smi"] == "usr/lib/wsl/lib/nvidia-smi"


@pytest.mark.parametrize("folder", ["tegra", "nvidia"])
def test_jetson(tmp_path: Path, folder: str) -> None:
    lib = tmp_path / "usr/lib/aarch64-linux-gnu" / folder
    of_machine(library(lib / "libnvrm_gpu.so", "libnvrm_gpu.so"), AARCH64)
    # Without libcuda it is somebody else's folder: Debian keeps diverted libraries in one.
    assert find(tmp_path, "540.3.0", "aarch64") == {}
    of_machine(library(lib / "libcuda.so.1.1", "libcuda.so.1"), AARCH64)
    found = find(tmp_path, "540.3.0", "aarch64")
    assert set(libraries(found)) == {"libcuda.so", "libcuda.so.1", "libcuda.so.1.1", "libnvrm_gpu.so"}
    assert found["/usr/lib/aarch64-linux-gnu/libcuda.so.1"].endswith(f"{folder}/libcuda.so.1.1")
    assert find(tmp_path, "540.3.0", "x86_64") == {}


def test_the_gpu_operators_driver_is_found_below_the_nodes_root(tmp_path: Path) -> None:
    folder = "run/nvidia/driver/usr/lib/x86_64-linux-gnu"
    install(tmp_path / "run/nvidia/driver")
    assert driver_root_in(tmp_path) == tmp_path / "run/nvidia/driver"
    assert libraries(find(tmp_path))["libcuda.so.1"] == f"{folder}/libcuda.so.{VERSION}"
    # Of two the node's own is the one that its kernel runs.
    install(tmp_path)
    assert driver_root_in(tmp_path) == tmp_path
    assert not any("run/nvidia" in there for there in find(tmp_path).values())
    assert driver_root_in(tmp_path / "nothing") == tmp_path / "nothing"


def test_a_nodes_root_seen_in_a_container(tmp_path: Path) -> None:
    install(tmp_path / "run/nvidia/driver")
    found = find_driver_files(tmp_path / "run/nvidia/driver", VERSION, tmp_path, machine="x86_64")
    assert {file.host_path for file in found if file.container_path == f"{LIB64}/libcuda.so.1"} == {
        f"/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libcuda.so.{VERSION}"
    }


@pytest.mark.parametrize(
    ("version", "machine"),
    [("550.1", "x86_64"), ("", "x86_64"), ("../x", "x86_64"), (VERSION, "riscv64")],
)
def test_nothing_without_the_libraries_of_the_version(tmp_path: Path, version: str, machine: str) -> None:
    install(tmp_path)
    assert find(tmp_path, version, machine) == {}


def test_a_library_that_changes_is_read_again(tmp_path: Path) -> None:
    folder = install(tmp_path)
    assert "libcuda.so.2" not in libraries(find(tmp_path))
    library(folder / "new", "libcuda.so.2").rename(folder / f"libcuda.so.{VERSION}")
    assert "libcuda.so.2" in libraries(find(tmp_path))
