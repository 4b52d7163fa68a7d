from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.project.backends.poetry_sources import PoetrySources, poetry_sources
from gpuyard.building.project.pyproject import Pyproject, Table
from gpuyard.building.request import Keeping
from tests.unit.building.project.conftest import WriteFiles
from tests.unit.building.project.test_reading import inputs, requested
from tests.unit.building.python.conftest import Index, index, other_index, shop
from tests.unit.images.conftest import MakeWheel, Workshop, make_wheel, workshop

__all__ = ["index", "make_wheel", "other_index", "shop", "workshop"]

_POETRY = """\
[tool.poetry]
package-mode = false
[tool.poetry.dependencies]
python = ">=3.8"
"""


def source(name: str, priority: str = "", url: str = "") -> str:
    url = f"url = '{url or f'https://{name}.example/simple'}'\n" if name.lower() != "pypi" else ""
    return f"[[tool.poetry.source]]\nname = '{name}'\n{url}" + (
        f"priority = '{priority}'\n" if priority else ""
    )


def read(*sources: str, dependencies: str = "") -> PoetrySources:
    text = _POETRY + dependencies + "".join(sources)
    return poetry_sources(Pyproject(Path("/p"), Table(tomllib.loads(text), "pyproject.toml")))


@pytest.mark.parametrize("priority", ["explicit", "supplemental"])
def test_what_names_its_source_comes_from_there_alone(priority: str) -> None:
    found = read(
        source("our own", priority, "https://own.example/simple"),
        dependencies="mine = {version = '^1', source = 'our own'}\nnumpy = '*'\n",
    )
    assert found.sources == {"mine": {"index": "our-own"}}
    assert found.indexes == ({"name": "our-own", "url": "https://own.example/simple", "explicit": True},)
    assert found.default == ""
    assert [("our-own is asked only" in text) for text in found.notices] == [True] * (priority != "explicit")


@pytest.mark.parametrize("sources", [(source("a"),), (source("a", "primary"), source("PyPI", "explicit"))])
def test_a_primary_source_takes_the_place_of_pypi(sources: tuple[str, ...]) -> None:
    found = read(
        *sources,
        dependencies="mine = {version = '1', source = 'a'}\nnumpy = {version = '*', source = 'pypi'}\n",
    )
    assert found.default == "a=https://a.example/simple"
    assert found.sources == {"numpy": {"index": "pypi"}}
    assert found.indexes[0]["name"] == "pypi" and ".org/simple" in found.indexes[0]["url"]


def test_pypi_as_ever() -> None:
    assert read() == read(source("PyPI"), dependencies="a = {version = '1', source = 'PyPI'}\n")


@pytest.mark.parametrize(
    ("sources", "why"),
    [
        (source("a") + source("b"), "all of its primary sources, a, b"),
        (source("PyPI") + source("b"), "all of its primary sources, pypi, b"),
        (source("a", "secondary"), "the priority of a is secondary"),
        ("[[tool.poetry.source]]\nname = 'a'\n", "a has no URL"),
        ("[[tool.poetry.source]]\nurl = 'https://x.example'\n", "without a name"),
        ("[tool.poetry.source]\nname = 'a'\n", "must be a list of tables"),
    ],
)
def test_what_uv_could_not_do_is_refused(sources: str, why: str) -> None:
    with pytest.raises(errors.UsageError, match=why):
        read(sources)


@pytest.mark.parametrize(
    ("dependency", "why"),
    [
        ("{version = '1', source = 'gone'}", "from the source gone, which tool.poetry.source hasn't"),
        ("[{version = '1', source = 'a'}, {version = '2'}]", "mine comes from several sources"),
    ],
)
def test_a_dependency_whose_source_nobody_knows(dependency: str, why: str) -> None:
    with pytest.raises(errors.UsageError, match=why):
        read(source("a", "explicit"), dependencies=f"mine = {dependency}\n")


async def test_what_uv_is_told(write_files: WriteFiles, tmp_path: Path) -> None:
    text = _POETRY + "mine = {version = '^1', source = 'own'}\n"
    more = "[tool.poetry.group.dev.dependencies]\npytest = '*'\n[tool.poetry.group.gpu]\noptional = true\n"
    folder = write_files({"pyproject.toml": text + more + source("own", "explicit")})
    found = await requested(folder / "pyproject.toml")
    assert tomllib.loads(inputs(found, tmp_path))["tool"]["uv"]["sources"] == {"mine": {"index": "own"}}
    (notice,) = found.notices
    assert "not dev;" in notice and "poetry export --with dev" in notice
    before = found.fingerprint
    write_files({"pyproject.toml": text + source("own", "explicit") + source("all")})
    found = await requested(folder / "pyproject.toml")
    assert found.default_index == "all=https://all.example/simple" and found.fingerprint != before


@pytest.mark.parametrize("priority", ["explicit", "primary"])
async def test_a_private_package_never_comes_from_the_usual_index(
    priority: str, shop: Workshop, index: Index, other_index: Index, make_wheel: MakeWheel
) -> None:
    mine = make_wheel("mine", "1.0")
    mine.rename(other_index.folder / mine.name)
    make_wheel("mine", "9.0")  # somebody's who took the name
    named = "mine = {version = '*', source = 'own'}\n" if priority == "explicit" else "mine = '*'\n"
    (shop.app / "pyproject.toml").write_text(_POETRY + named + source("own", priority, other_index.url()))
    await shop.build(requirements=shop.app / "pyproject.toml")
    lock = (shop.app / "gpuyard.lock").read_text()
    assert "mine-1.0-" in lock and "secret" not in lock
    assert not any("mine" in path for path in index.served)
    shutil.rmtree(shop.folder / "cache")
    shutil.rmtree(shop.folder / "out")
    await shop.build(requirements=shop.app / "pyproject.toml", keeping=Keeping.LOCKED)
