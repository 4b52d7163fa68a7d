from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.system_packages.choose import Chooser
from gpuyard.images.cache import Cache
from tests.unit.building.system_packages.debian_archive import NOW, DebFile, DebianArchive


async def choose(
    archive: DebianArchive, tmp_path: Path, asked: Sequence[str], status: str
) -> tuple[str, list[str]]:
    """What is chosen, and what is said."""
    said: list[str] = []
    chooser = Chooser("base", archive.base_files(status), "amd64", Cache(tmp_path), {}, said.append)
    chosen = await chooser.choose(asked, NOW, ())
    return ", ".join(map(str, chosen)), said


def installed(name: str, version: str, selection: str) -> str:
    return f"Package: {name}\nStatus: {selection} ok installed\nArchitecture: amd64\nVersion: {version}\n\n"


async def test_a_package_on_hold_is_replaced_only_by_a_version_that_is_named(
    archive: DebianArchive, tmp_path: Path
) -> None:
    app = DebFile("app", fields={"Depends": "libx (>= 2.0)"})
    archive.publish([app, DebFile("libx", "2.0")])
    with pytest.raises(
        errors.ResolveError, match=r"app → libx needs libx 2\.0, and the base holds libx 1\.0"
    ):
        await choose(archive, tmp_path, ["app"], installed("libx", "1.0", "hold"))
    named, said = await choose(archive, tmp_path, ["app", "libx=2.0"], installed("libx", "1.0", "hold"))
    assert "libx 2.0" in named and any("libx of the base is replaced: 1.0 → 2.0" in text for text in said)
    free, _ = await choose(archive, tmp_path, ["app"], installed("libx", "1.0", "install"))
    assert "libx 2.0" in free
