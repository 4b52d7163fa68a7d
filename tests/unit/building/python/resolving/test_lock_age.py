from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import uv

from gpuyard import errors
from tests.unit.images.conftest import MakeWheel, Workshop


def write_project(folder: Path, *dependencies: str, python: str = ">=3.9") -> None:
    folder.mkdir(exist_ok=True)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "project"\nversion = "1"\nrequires-python = "{python}"\n'
        f"dependencies = {list(dependencies)}\n"
        '[tool.uv]\nno-index = true\nfind-links = ["../wheels"]\npackage = false\n'
    )


def run_uv(folder: Path, *words: str) -> None:
    subprocess.run([uv.find_uv_bin(), *words, "--quiet"], cwd=folder, check=True)


async def test_a_lock_that_is_older_than_its_project_is_refused(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("demo")
    make_wheel("other")
    project = workshop.folder / "project"
    write_project(project, "demo")
    run_uv(project, "lock")
    await workshop.build(requirements=project / "uv.lock")
    # It locks another version of the same, and then a package that no index has.
    for dependencies in (("demo", "other"), ("demo<1",), ("nowhere",)):
        write_project(project, *dependencies)
        with pytest.raises(errors.UsageError, match=r"uv\.lock is older than its pyproject\.toml") as caught:
            await workshop.build(requirements=project / "uv.lock")
        assert caught.value.remedy == "lock the project anew: uv lock"
    write_project(project, "demo")
    await workshop.build(requirements=project / "uv.lock")


async def test_a_lock_that_nobody_here_can_look_at_is_taken(
    workshop: Workshop, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv wants a Python for the project, which is for the image's."""
    make_wheel("demo")
    project = workshop.folder / "project"
    write_project(project, "demo")
    run_uv(project, "lock")
    environ = workshop.environ | {"UV_PYTHON": "3.99"}
    monkeypatch.setattr(Workshop, "environ", property(lambda self: environ))
    built = await workshop.build(requirements=project / "uv.lock")
    assert "demo 1.0" in dict(built.platforms["linux/amd64"].layers)


async def test_an_exported_lock_that_is_older_than_uv_s_is_refused(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("demo")
    project = workshop.folder / "project"
    write_project(project, "demo")
    run_uv(project, "lock")
    run_uv(project, "export", "--no-emit-project", "-o", "pylock.toml")
    await workshop.build(requirements=project / "pylock.toml")
    make_wheel("demo", "2.0")
    run_uv(project, "lock", "--upgrade")
    with pytest.raises(errors.UsageError, match=r"it has demo 1\.0, and that 2\.0") as caught:
        await workshop.build(requirements=project / "pylock.toml", upgrade=True)
    assert "export it anew: uv export --no-emit-project -o pylock.toml" in caught.value.remedy
    # A lock by another hand has a life of its own.
    lock = project / "pylock.toml"
    lock.write_text("".join(line for line in lock.read_text().splitlines(True) if not line.startswith("#")))
    await workshop.build(requirements=lock, upgrade=True)
