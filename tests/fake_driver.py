"""A driver root with small real libraries in the place of NVIDIA's, compiled here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

VERSION = "550.107.02"


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
