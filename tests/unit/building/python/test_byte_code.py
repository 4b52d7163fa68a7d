from __future__ import annotations

import marshal
import sys
import zipfile
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.python.byte_code import Compiler, compile_wheel
from gpuyard.images.cache import Cache

TAG = sys.implementation.cache_tag
#: More than a part has.
LARGE = {f"m/f{number}.py": f"x = {number}\n{'#' * 400_000}\n".encode() for number in range(7)}


async def compiled(tmp_path: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    tmp_path.mkdir(exist_ok=True)
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    version = ".".join(map(str, sys.version_info[:3]))
    place = await compile_wheel(Cache(tmp_path), wheel, "0" * 64, Compiler(sys.executable, version), "/site")
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    with zipfile.ZipFile(place) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


async def test_a_wheel_of_several_parts_is_compiled_in_order(tmp_path: Path) -> None:
    found = await compiled(tmp_path, dict(reversed(LARGE.items())))
    assert list(found) == [f"m/__pycache__/f{number}.{TAG}.pyc" for number in range(7)]
    for number, pyc in enumerate(found.values()):
        code = marshal.loads(pyc[16:])
        names: dict[str, int] = {}
        exec(code, names)
        assert (code.co_filename, names["x"]) == (f"/site/m/f{number}.py", number)


async def test_what_cannot_be_compiled_is_left_out(tmp_path: Path) -> None:
    files = {"a.py": b"x = 1\n", "b.py": b"no Python", "c.txt": b"", "w.data/scripts/d.py": b""}
    assert list(await compiled(tmp_path, files)) == [f"__pycache__/a.{TAG}.pyc"]
    assert await compiled(tmp_path / "none", {}) == {}


async def test_tests_are_not_compiled(tmp_path: Path) -> None:
    files = dict.fromkeys(("m/tests/a.py", "tests/b.py", "m/tests.py", "m/testing/c.py"), b"x = 1\n")
    names = [f"m/testing/__pycache__/c.{TAG}.pyc", f"m/__pycache__/tests.{TAG}.pyc"]
    assert list(await compiled(tmp_path, files)) == names


async def test_a_damaged_file_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in LARGE.items():
            archive.writestr(name, content)
    wheel.write_bytes(wheel.read_bytes().replace(b"x = 5\n", b"x = 7\n"))
    with pytest.raises(errors.BuildError, match=r"can't compile w\.whl: .*Bad CRC-32"):
        await compile_wheel(Cache(tmp_path), wheel, "0" * 64, Compiler(sys.executable, "3"), "/site")
    assert list((tmp_path / "byte-code-3").iterdir()) == []
