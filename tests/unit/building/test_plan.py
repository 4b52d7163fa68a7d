from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.environment import PREFIX
from tests.unit.images.conftest import MakeWheel, Workshop

SITE = f"{PREFIX.strip('/')}/lib/python3.11/site-packages"
RUNS = "import os, pathlib\npathlib.Path({ran!r}).write_text(os.environ.get('SECRET', 'ran'))\n"
PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "my-app"
version = "1.0"
dependencies = ["demo"]
[project.scripts]
my-train = "my_app:main"
"""


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """What a build that is run writes."""
    return tmp_path / "ran"


def write_sources(workshop: Workshop, ran: Path) -> None:
    """A project whose backend, which needs nothing else, says that it was run; and an archive of it."""
    own = workshop.app / "own"
    own.mkdir()
    (own / "backend.py").write_text(RUNS.format(ran=str(ran)))
    (own / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    shutil.copytree(own, workshop.folder / "own-1.0")
    (workshop.folder / "own-1.0/PKG-INFO").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    wheels = workshop.folder / "wheels"
    shutil.make_archive(str(wheels / "own-1.0"), "gztar", workshop.folder, "own-1.0")


@pytest.mark.parametrize(
    "lines",
    [
        ("-e {app}/own",),
        ("{app}/own",),
        ("own @ file://{app}/own",),
        ("{wheels}/own-1.0.tar.gz",),
        ("own @ file://{wheels}/own-1.0.tar.gz",),
        ("own",),
        ("--no-binary own", "own"),
        ("-r {app}/included.txt",),
    ],
)
async def test_requirements_run_no_build(lines: tuple[str, ...], workshop: Workshop, ran: Path) -> None:
    write_sources(workshop, ran)
    (workshop.app / "included.txt").write_text(f"-e {workshop.app}/own\n")
    wheels = workshop.folder / "wheels"
    file = workshop.require(*(line.format(app=workshop.app, wheels=wheels) for line in lines))
    with pytest.raises(errors.BuildError):
        await workshop.build(requirements=file)
    assert not ran.exists()
    assert not (workshop.app / "gpuyard.lock").exists()


@pytest.mark.parametrize("key", ["no-binary-package = ['own']\n", "[pip]\nno-binary = ['own']\n"])
async def test_a_configuration_of_uv_runs_no_build(key: str, workshop: Workshop, ran: Path) -> None:
    write_sources(workshop, ran)
    config = workshop.folder / "uv.toml"
    config.write_text(
        key + config.read_text() if "[" not in key.partition("=")[0] else config.read_text() + key
    )
    with pytest.raises(errors.ResolveError, match="gpuyard runs no builds unless it is told to"):
        await workshop.build(requirements=workshop.require("own"))
    assert not ran.exists()


async def test_a_projects_requirements_that_are_dynamic_run_no_build(workshop: Workshop, ran: Path) -> None:
    (workshop.app / "pyproject.toml").write_text(
        PYPROJECT.replace('dependencies = ["demo"]', 'dynamic = ["dependencies"]')
    )
    (workshop.app / "setup.py").write_text(RUNS.format(ran=str(ran)))
    with pytest.raises(errors.BuildError, match=r"setup\.py does more than call setup") as caught:
        await workshop.build(requirements=workshop.app / "pyproject.toml")
    assert "--build-project" in caught.value.remedy
    assert not ran.exists()


def write_project(workshop: Workshop) -> None:
    (workshop.app / "src/my_app").mkdir(parents=True)
    (workshop.app / "src/my_app/__init__.py").write_text("def main(): print('one')\n")
    (workshop.app / "pyproject.toml").write_text(PYPROJECT)


@pytest.mark.parametrize("asked", ["-e .", "pyproject.toml"])
async def test_ones_own_project_is_installed_with_what_it_requires(
    asked: str, workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("demo")
    write_project(workshop)
    file = workshop.app / "pyproject.toml"
    if asked != file.name:
        file = workshop.app / "requirements.txt"
        file.write_text(f"{asked}\n")
    result = await workshop.build(requirements=file)
    (image,) = result.platforms.values()
    assert [title for title, _ in image.layers] == ["demo 1.0", "application"]
    members = await workshop.layer(-1)
    assert members[f"{SITE}/__editable__.my-app.pth"][1] == b"/workspace/src\n"
    assert b"Requires-Dist: demo\n" in members[f"{SITE}/my_app-1.0.dist-info/METADATA"][1]
    script, text = members[f"{PREFIX.strip('/')}/bin/my-train"]
    assert script.mode == 0o755 and b"from my_app import main" in text
    assert "workspace/src/my_app/__init__.py" in members

    lock = (workshop.app / "gpuyard.lock").read_bytes()
    (workshop.app / "src/my_app/__init__.py").write_text("def main(): print('two')\n")
    again = await workshop.build(requirements=file)
    assert not again.unchanged and (workshop.app / "gpuyard.lock").read_bytes() == lock
    (workshop.app / "pyproject.toml").write_text(PYPROJECT.replace('["demo"]', "[]"))
    await workshop.build(requirements=file)
    assert b"demo-1.0" not in (workshop.app / "gpuyard.lock").read_bytes()


async def test_a_project_whose_wheels_are_fetched_again(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo")
    write_project(workshop)
    file = workshop.require("-e app")
    first = await workshop.build(requirements=file)
    shutil.rmtree(workshop.folder / "cache")
    shutil.rmtree(workshop.folder / "out")
    assert (await workshop.build(requirements=file)).digest == first.digest


async def test_a_wheel_may_require_ones_own_project(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo", requires=("my-app",))
    write_project(workshop)
    await workshop.build(requirements=workshop.require("-e app", "demo"))
    assert f"{SITE}/my_app-1.0.dist-info/METADATA" in await workshop.layer(-1)


async def test_a_project_that_the_bases_python_is_too_old_for(workshop: Workshop) -> None:
    write_project(workshop)
    file = workshop.app / "pyproject.toml"
    file.write_text(PYPROJECT.replace('dependencies = ["demo"]', 'requires-python = ">=3.12"'))
    with pytest.raises(
        errors.ResolveError, match=r"my-app requires Python >=3\.12, and the base .* has 3\.11"
    ):
        await workshop.build(requirements=file)
