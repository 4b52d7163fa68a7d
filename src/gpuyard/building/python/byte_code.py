"""Byte code for wheels, made once per wheel and interpreter and kept in the cache."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.images.cache import Cache
from gpuyard.images.subprocesses import outputs

_PROGRAM = Path(__file__).with_name("compile_wheel.py")
_KIND = "byte-code-3"


@dataclass(frozen=True)
class Compiler:
    """An interpreter of this machine whose byte code the base's interpreter reads.

    Attributes:
        program: its path.
        version: in full, such as 3.11.2; two of one minor version may compile differently.
    """

    program: str
    version: str

    def __str__(self) -> str:
        return f"cpython {self.version}"


async def find_compiler(minor: int, environ: Mapping[str, str]) -> Compiler | None:
    """An interpreter of version 3.MINOR: the one that runs this, else one on PATH; None without one."""
    if sys.version_info[:2] == (3, minor) and sys.implementation.name == "cpython":
        return Compiler(sys.executable, ".".join(map(str, sys.version_info[:3])))
    import shutil  # Most builds need no other interpreter, and imports cost time.

    program = shutil.which(f"python3.{minor}", path=environ.get("PATH"))
    if program is None:
        return None
    process = await asyncio.create_subprocess_exec(
        program, "-IS", "-c", "import sys; print(*sys.version_info[:3], sep='.')",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = await outputs(process)
    version = out.decode("ascii", "replace").strip()
    return Compiler(program, version) if version.startswith(f"3.{minor}.") else None


async def find_python(minor: int, environ: Mapping[str, str]) -> str:
    """The program of that interpreter; without one, of the one that runs this."""
    compiler = await find_compiler(minor, environ)
    return compiler.program if compiler else sys.executable


async def compile_wheel(
    cache: Cache, wheel: Path, sha256: str, compiler: Compiler, site_packages: str
) -> Path:
    """The zip with a wheel's byte code (see `compile_wheel.py`), made now unless it is in the cache.

    Raises:
        BuildError: the interpreter fails.
        CacheError: it can't be kept.
    """
    name = f"{sha256}-{compiler.version}.zip"
    place = cache.path(_KIND, name)
    if place.exists():
        return place
    with cache.new_file(_KIND, name) as file:
        process = await asyncio.create_subprocess_exec(
            compiler.program, "-sS", str(_PROGRAM), str(wheel), file.name, site_packages,
            env={"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await outputs(process)
        if process.returncode:
            last = said.decode("utf-8", "replace").strip().splitlines()[-1:]
            if last and "No space left" in last[0]:
                raise OSError(28, "No space left on device")
            from gpuyard.building.python.zip_file import ZipFile

            with ZipFile(wheel):  # else the wheel itself is what is wrong, and this says so
                pass
            raise errors.BuildError(
                f"{compiler.program} can't compile {wheel.name}: {last[0] if last else process.returncode}",
                remedy="build with --no-byte-code",
            )
    return place
