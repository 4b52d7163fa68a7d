from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.python.resolving.local_wheels import changed, with_paths
from gpuyard.building.python.wheels import Wheel
from gpuyard.building.request import Keeping
from gpuyard.images.cache import Cache
from tests.unit.building.python.conftest import use_environ
from tests.unit.images.conftest import MakeWheel, Workshop

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


def test_a_large_wheel_is_read_once_while_it_stays_as_it_is(tmp_path: Path) -> None:
    cache, path = Cache(tmp_path / "cache"), tmp_path / "a-1-py3-none-any.whl"
    with path.open("wb") as file:
        file.truncate(60_000_000)
    wheel = Wheel(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), path=path.name)
    assert changed([wheel], tmp_path, cache) == []
    (kept,) = (tmp_path / "cache/hashes").iterdir()
    kept.write_text(kept.read_text().replace(wheel.sha256, "0" * 64))
    assert changed([wheel], tmp_path, cache) == [f"{path.name} was made anew"]  # it believed what it knew
    with path.open("r+b") as file:
        file.truncate(60_000_001)
    assert changed([wheel], tmp_path, cache) == [f"{path.name} was made anew"]
    with path.open("r+b") as file:
        file.truncate(60_000_000)
    assert changed([wheel], tmp_path, cache) == []


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
