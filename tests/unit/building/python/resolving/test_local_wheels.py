from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpuyard import errors
from gpuyard.building.python.resolving.local_wheels import changed, with_paths
from gpuyard.building.python.wheels import Wheel
from gpuyard.building.request import Keeping
from gpuyard.building.workdir.file_state import file_system_time_ns
from gpuyard.images.cache import Cache
from tests.unit.building.python.conftest import use_environ
from tests.unit.images.conftest import MakeWheel, Workshop
from tests.waiting import until

PACKAGE = "opt/gpuyard/lib/python3.11/site-packages/mine/__init__.py"


def make_local(make_wheel: MakeWheel, folder: Path, code: str, version: str = "1.0") -> Path:
    """A wheel beside the requirements, not where the index's are."""
    made = make_wheel("mine", version, {"mine/__init__.py": code})
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(made, folder / made.name))


async def installed(shop: Workshop) -> str:
    layer = await shop.layer(-2)
    return next(data.decode() for path, (_, data) in layer.items() if path.endswith("mine/__init__.py"))


@pytest.mark.parametrize(
    "lines",
    [
        ["./dist/mine-1.0-py3-none-any.whl"],
        ["dist/mine-1.0-py3-none-any.whl"],
        ["mine @ file://${HERE}/dist/mine-1.0-py3-none-any.whl"],
        ["--find-links dist", "mine"],
        ["--find-links ${HERE}/dist", "mine"],
        ["-r sub/more.txt"],
        ["mine"],
    ],
)
async def test_a_wheel_made_anew_under_its_old_name_is_noticed(
    workshop: Workshop, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    """And its path starts from the requirements file's folder, wherever the build is run."""
    use_environ(workshop, monkeypatch, HERE=str(workshop.folder))
    if lines == ["mine"]:
        monkeypatch.chdir(workshop.folder)
        use_environ(workshop, monkeypatch, UV_FIND_LINKS="dist")
    (workshop.folder / "sub").mkdir()
    (workshop.folder / "sub/more.txt").write_text("--find-links ../dist\nmine\n")
    make_local(make_wheel, workshop.folder / "dist", "old = 1\n")
    requirements = workshop.require(*lines)
    first = await workshop.build(requirements=requirements)
    assert await installed(workshop) == "old = 1\n"
    lock = (workshop.app / "gpuyard.lock").read_text()
    assert 'path = "../dist/mine-1.0-py3-none-any.whl"' in lock
    assert (await workshop.build(requirements=requirements)).digest == first.digest

    workshop.heard.said.clear()
    make_local(make_wheel, workshop.folder / "dist", "new = 1\n")
    with pytest.raises(errors.BuildError, match=r"mine-1\.0.* was made anew: mine 1\.0 \(another file\)"):
        await workshop.build(requirements=requirements, keeping=Keeping.LOCKED)
    await workshop.build(requirements=requirements)
    assert await installed(workshop) == "new = 1\n"
    (said,) = (text for text in workshop.heard.said if "gpuyard.lock" in text)
    assert said == (
        "gpuyard.lock written: ../dist/mine-1.0-py3-none-any.whl was made anew: mine 1.0 (another file)"
    )


async def test_a_local_wheel_never_comes_from_an_index(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_local(make_wheel, workshop.folder / "dist", "mine = 1\n")
    make_wheel("mine", "1.0", {"mine/__init__.py": "somebody_else = 1\n"})
    requirements = workshop.require("./dist/mine-1.0-py3-none-any.whl")
    first = await workshop.build(requirements=requirements)
    shutil.rmtree(workshop.folder / "cache")
    shutil.rmtree(workshop.folder / "out")
    assert (await workshop.build(requirements=requirements)).digest == first.digest
    assert await installed(workshop) == "mine = 1\n"


async def test_a_newer_local_wheel_takes_the_place_of_one_that_is_gone(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    old = make_local(make_wheel, workshop.folder / "dist", "old = 1\n")
    requirements = workshop.require("-f dist", "mine")
    await workshop.build(requirements=requirements)
    old.unlink()
    make_local(make_wheel, workshop.folder / "dist", "new = 1\n", "1.1")
    await workshop.build(requirements=requirements)
    assert await installed(workshop) == "new = 1\n"
    assert any("is there no longer: mine 1.0 → 1.1" in text for text in workshop.heard.said)


def test_paths_are_seen_from_the_lock(tmp_path: Path) -> None:
    one, two = Wheel("a-1-py3-none-any.whl", "a" * 64), Wheel("b-1-py3-none-any.whl", "b" * 64)
    sources = {one: f"file://{tmp_path}/my%20dist/{one.file}", two: "https://x.example/b-1-py3-none-any.whl"}
    found = with_paths(sources, tmp_path / "app")
    assert {wheel.path: source for wheel, source in found.items()} == {
        f"../my dist/{one.file}": f"{tmp_path}/my dist/{one.file}",
        "": "https://x.example/b-1-py3-none-any.whl",
    }
    (far,) = with_paths({one: "/srv/dist/a-1-py3-none-any.whl"}, tmp_path)
    assert far.path == "/srv/dist/a-1-py3-none-any.whl"


@dataclass
class LocalWheel:
    """A large one, through a link, and how often it was read."""

    folder: Path
    reads: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.file.parent.mkdir()
        with self.file.open("wb") as file:
            file.truncate(60_000_000)
        (self.folder / self.file.name).symlink_to(self.file)
        sha256 = hashlib.sha256(self.file.read_bytes()).hexdigest()
        self.wheel = Wheel(self.file.name, sha256, path=self.file.name)

    @property
    def file(self) -> Path:
        return self.folder / "dist/a-1-py3-none-any.whl"

    def write(self, text: bytes) -> None:
        """In place: the file's size stays."""
        with self.file.open("r+b") as file:
            file.write(text)

    async def changed(self) -> list[str]:
        cache = Cache(self.folder / "cache")
        return await changed([self.wheel], self.folder, cache, lambda done, total: self.reads.append(done))


async def test_a_large_wheel_is_read_once_while_it_stays_as_it_is(tmp_path: Path) -> None:
    local = LocalWheel(tmp_path)

    def moved() -> bool:
        found = local.file.stat()
        return (file_system_time_ns(tmp_path, found.st_dev) or 0) > found.st_ctime_ns

    until(moved, "the file system's clock moves")
    assert await local.changed() == [] and local.reads
    local.reads.clear()
    assert await local.changed() == [] and not local.reads
    local.write(b"other")
    assert await local.changed() == [f"{local.file.name} was made anew"]
    local.file.unlink()
    assert await local.changed() == [f"{local.file.name} is there no longer"]


async def test_a_wheel_that_is_made_anew_within_a_tick_of_the_clock_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = LocalWheel(tmp_path)
    fstat = os.fstat

    def standing(file: int) -> SimpleNamespace:
        found = fstat(file)
        names = ("st_dev", "st_ino", "st_size", "st_mode")
        return SimpleNamespace(st_mtime_ns=1, st_ctime_ns=1, **{name: getattr(found, name) for name in names})

    monkeypatch.setattr(os, "fstat", standing)
    assert await local.changed() == []
    local.write(b"other")
    assert await local.changed() == [f"{local.file.name} was made anew"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["-f dist", "mine"], ["keeps to mine 1.0, and ../dist has 1.1; --upgrade takes the newer one"]),
        (["-f dist", "mine<1.1"], []),
        (["-f dist", "mine @ ./dist/mine-1.0-py3-none-any.whl"], []),
    ],
)  # fmt: skip
async def test_a_newer_local_wheel_is_told_of(
    workshop: Workshop, make_wheel: MakeWheel, lines: list[str], said: list[str]
) -> None:
    make_local(make_wheel, workshop.folder / "dist", "old = 1\n")
    requirements = workshop.require(*lines)
    await workshop.build(requirements=requirements)
    make_local(make_wheel, workshop.folder / "dist", "new = 1\n", "1.1")
    make_local(make_wheel, workshop.folder / "dist", "older = 1\n", "0.9")
    workshop.heard.said.clear()
    await workshop.build(requirements=requirements)
    assert await installed(workshop) == "old = 1\n"
    assert [text[13:] for text in workshop.heard.said if "keeps to" in text] == said
