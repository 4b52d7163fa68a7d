from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.building.request import Keeping
from tests.unit.building.system_packages.conftest import archive
from tests.unit.building.system_packages.debian_archive import DebFile, DebianArchive
from tests.unit.images.conftest import Workshop, debian_files

__all__ = ["archive"]

STATUS = "Package: libc6\nStatus: install ok installed\nVersion: 2.36\nArchitecture: amd64\n\n"
ONE = DebFile("one", fields={"Depends": "lib (>= 1)"}, files={"usr/bin/one": b"1"})


def publish(archive: DebianArchive, *packages: DebFile) -> None:
    archive.publish(packages, date=datetime.now(UTC))


async def make_base(workshop: Workshop, archive: DebianArchive) -> None:
    await workshop.make_base(debian_files() | dict(archive.base_files(STATUS)))


def lock(workshop: Workshop) -> dict[str, Any]:
    return tomllib.loads((workshop.app / "gpuyard.lock").read_text())


def versions(workshop: Workshop) -> Sequence[tuple[str, str]]:
    return [(p["name"], p["version"]) for p in lock(workshop)["platform"][0]["system-packages"]]


async def test_they_are_locked_and_lie_below_all_else(workshop: Workshop, archive: DebianArchive) -> None:
    await make_base(workshop, archive)
    publish(archive, ONE, DebFile("lib", "1.0", files={"usr/share/lib": b"l"}))
    result = await workshop.build(system_packages=("one",))
    (image,) = result.platforms.values()
    assert [title for title, _ in image.layers] == ["2 system packages", "application"]
    assert "usr/bin/one" in await workshop.layer(1)
    assert lock(workshop)["system-packages"] == ["one"]
    assert versions(workshop) == [("lib", "1.0"), ("one", "1.0")]

    # With the lock nothing is asked of the archive, and nothing is made again.
    archive.served.clear()
    assert (await workshop.build(system_packages=("one",))).unchanged
    assert archive.served == []


async def test_which_index_was_the_newest_is_known_for_good(
    workshop: Workshop, archive: DebianArchive
) -> None:
    await make_base(workshop, archive)
    publish(archive, DebFile("lib"))
    await workshop.build(system_packages=("lib",))
    kept = list((workshop.cache.folder / "apt-releases").iterdir())
    for path in kept:
        os.utime(path, (0, 0))
    with suppress(FileNotFoundError):
        (workshop.cache.folder / "swept").rmdir()
    await workshop.build(system_packages=("lib",))
    assert kept and all(path.exists() for path in kept)


async def test_what_the_base_has_is_said_and_makes_no_layer(
    workshop: Workshop, archive: DebianArchive
) -> None:
    await make_base(workshop, archive)
    publish(archive, DebFile("libc6", "2.37"))
    (image,) = (await workshop.build(system_packages=("libc6",))).platforms.values()
    assert [title for title, _ in image.layers] == ["application"]
    assert "libc6 2.36 comes with the base and is not installed again" in workshop.heard.said
    assert (await workshop.build(system_packages=("libc6",))).unchanged


async def test_versions_stay_until_somebody_upgrades(workshop: Workshop, archive: DebianArchive) -> None:
    await make_base(workshop, archive)
    publish(archive, ONE, DebFile("lib", "1.0"))
    await workshop.build(system_packages=("one",))
    publish(archive, ONE, DebFile("lib", "1.0"), DebFile("lib", "1.1"), DebFile("two"))
    await workshop.build(system_packages=("one", "two"))
    assert versions(workshop) == [("lib", "1.0"), ("one", "1.0"), ("two", "1.0")]
    assert "other system packages are asked for: + two 1.0" in "\n".join(workshop.heard.said)
    await workshop.build(system_packages=("two", "one"), upgrade=True)
    assert versions(workshop) == [("lib", "1.1"), ("one", "1.0"), ("two", "1.0")]
    await workshop.build()
    assert "system-packages" not in lock(workshop)


async def test_a_lock_that_would_change_is_refused_when_it_must_not(
    workshop: Workshop, archive: DebianArchive
) -> None:
    await make_base(workshop, archive)
    publish(archive, ONE, DebFile("lib", "1.0"), DebFile("two"))
    await workshop.build(system_packages=("one",))
    assert (await workshop.build(system_packages=("one",), keeping=Keeping.LOCKED)).unchanged
    with pytest.raises(errors.BuildError, match=r"--locked .* other system packages are asked for"):
        await workshop.build(system_packages=("one", "two"), keeping=Keeping.LOCKED)
    assert (await workshop.build(system_packages=("one",), keeping=Keeping.FROZEN)).unchanged


async def test_a_base_without_debians_database_is_refused(workshop: Workshop) -> None:
    release = 'ID=fedora\nPRETTY_NAME="Fedora Linux 40"\n'
    await workshop.make_base(debian_files() | {"etc/os-release": release})
    with pytest.raises(errors.BuildError, match="it is Fedora Linux 40"):
        await workshop.build(system_packages=("libgl1",))
    assert not (workshop.app / "gpuyard.lock").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nvidia-driver-535", "the driver belongs to the node"), ("openssh-server", "no system manager")],
)
async def test_what_cannot_work_is_refused_with_the_reason(
    workshop: Workshop, archive: DebianArchive, name: str, reason: str
) -> None:
    await make_base(workshop, archive)
    publish(archive, DebFile(name), DebFile("gtk", fields={"Depends": name}))
    with pytest.raises(errors.ResolveError, match=reason):
        await workshop.build(system_packages=(name,))
    if "driver" in name:
        with pytest.raises(errors.ResolveError, match=f"gtk → {name}"):
            await workshop.build(system_packages=("gtk",))
    else:
        await workshop.build(system_packages=("gtk",))


@pytest.mark.parametrize("word", ["LibGL", "libgl1:i386", "libgl1 libgl2", "-x", "a=", "libgl1/bookworm"])
async def test_what_is_no_name_is_refused(workshop: Workshop, archive: DebianArchive, word: str) -> None:
    await make_base(workshop, archive)
    with pytest.raises(errors.UsageError, match="is not a system package"):
        await workshop.build(system_packages=(word,))
