"""A driver root with small real libraries in the place of NVIDIA's, compiled here."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

VERSION = "550.107.02"
_NVML = Path(__file__).parent / "stubs/nvml/nvml_stub.c"
#: Loads libraries by their names, and calls what is in them.
_LOAD = """
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **names) {
    for (int at = 1; at < count; at++) {
        void *library = dlopen(names[at], RTLD_NOW);
        int (*answer)(void) = library ? (int (*)(void)) dlsym(library, "answer") : 0;
        if (answer) printf("%s says %d\\n", names[at], answer());
        else printf("%s\\n", dlerror());
    }
}
"""


def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        pytest.skip("no C compiler, and the driver's libraries are compiled")
    return found


def library(path: Path, soname: str = "", *, number: int = 42, bits: int = 64) -> Path:
    """A shared library whose `answer()` is `number`; it needs no C library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    named = [f"-Wl,-soname,{soname}"] if soname else []
    subprocess.run(
        [compiler(), f"-m{bits}", "-x", "c", "-", "-shared", "-fPIC", "-nostdlib", *named, "-o", str(path)],
        input=f"int answer(void) {{ return {number}; }}",
        text=True,
        check=True,
    )
    return path


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\necho a program of the driver\n")
    path.chmod(0o755)
    return path


def of_machine(path: Path, number: int) -> Path:
    """Makes an ELF file one of another machine (`e_machine`)."""
    with path.open("r+b") as file:
        file.seek(18)
        file.write(number.to_bytes(2, "little"))
    return path


def install(root: Path, version: str = VERSION, folder: str = "usr/lib/x86_64-linux-gnu") -> Path:
    """What a package of the driver brings, of what matters here; gives the folder of its libraries."""
    libraries = root / folder
    for name, soname in (
        ("libcuda", "libcuda.so.1"),
        ("libnvidia-ml", "libnvidia-ml.so.1"),
        # Of some the SONAME is the file's name.
        ("libnvidia-gpucomp", f"libnvidia-gpucomp.so.{version}"),
    ):
        library(libraries / f"{name}.so.{version}", soname)
        if not soname.endswith(version):
            (libraries / soname).unlink(missing_ok=True)
            (libraries / soname).symlink_to(f"{name}.so.{version}")
    program(root / "usr/bin/nvidia-smi")
    firmware = root / f"usr/lib/firmware/nvidia/{version}/gsp_ga10x.bin"
    firmware.parent.mkdir(parents=True, exist_ok=True)
    firmware.write_bytes(b"firmware")
    if not (root / "lib").exists():
        (root / "lib").symlink_to("/usr/lib")
    return libraries


def install_with_nvml(root: Path) -> Path:
    """The same with an NVML that finds four GPUs, and their nodes, which are as /dev/null for root."""
    build_nvml(install(root) / f"libnvidia-ml.so.{VERSION}")
    (root / "dev").mkdir()
    for name in ("nvidiactl", *(f"nvidia{index}" for index in range(4))):
        if os.geteuid() == 0:
            os.mknod(root / "dev" / name, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        else:
            (root / "dev" / name).touch()
    return root


def build_nvml(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = ["-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o", str(path)]
    subprocess.run([compiler(), *options, str(_NVML)], check=True)


def glibc_image(folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Files and links of an image: this system's loader and C library, /load, an older driver of its own."""
    options = [compiler(), "-x", "c", "-", "-o", str(folder / "load")]
    subprocess.run(options, input=_LOAD, text=True, check=True)
    needed = subprocess.run(["ldd", folder / "load"], capture_output=True, text=True, check=True).stdout
    own = library(folder / "libcuda.so", "libcuda.so.1", number=7)
    files = {path.lstrip("/"): Path(path).resolve() for path in re.findall(r"(/\S+) \(", needed)}
    files |= {"load": folder / "load", "usr/lib/x86_64-linux-gnu/libcuda.so.470.1": own}
    return files, {"usr/lib/x86_64-linux-gnu/libcuda.so.1": "libcuda.so.470.1"}
