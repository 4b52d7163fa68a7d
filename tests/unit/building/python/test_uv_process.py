from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
import uv

from gpuyard import errors
from gpuyard.building.python.uv_process import uv_environ
from tests.unit.building.python.conftest import Index, use_environ
from tests.unit.images.conftest import MakeWheel, Workshop, tar_of

ENVIRON = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "UV_INDEX_URL": "https://example.com",
    "https_proxy": "http://proxy",
    "LC_ALL": "C",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "INDEX_TOKEN": "token",
    "PYTHONPATH": "/mine",
    "VIRTUAL_ENV": "/venv",
}


def test_uv_gets_what_it_needs_and_no_secrets_of_others() -> None:
    assert uv_environ(ENVIRON).keys() == {"PATH", "HOME", "UV_INDEX_URL", "https_proxy", "LC_ALL"}


def test_variables_that_requirements_name_are_needed(tmp_path: Path) -> None:
    file = tmp_path / "r.txt"
    file.write_text("--extra-index-url https://me:${INDEX_TOKEN}@example.com\n")
    assert uv_environ(ENVIRON, [file, tmp_path / "gone"])["INDEX_TOKEN"] == "token"


def test_a_keyring_has_its_credentials_in_any_variable() -> None:
    found = uv_environ({**ENVIRON, "UV_KEYRING_PROVIDER": "subprocess"})
    assert found["AWS_SECRET_ACCESS_KEY"] == "secret"
    assert "PYTHONPATH" not in found and "VIRTUAL_ENV" not in found
    assert "AWS_SECRET_ACCESS_KEY" not in uv_environ({**ENVIRON, "UV_KEYRING_PROVIDER": "disabled"})


def program(path: Path, marks: Path) -> None:
    """A Python that tells that it was started."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "$0" >> {marks}\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)


def plant(folder: Path, marks: Path) -> None:
    """In a folder, all by which uv may find a Python to start."""
    for name in (".venv/bin/python", ".venv/bin/python3", "named", "pinned"):
        program(folder / name, marks)
    (folder / ".venv/pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    (folder / ".python-version").write_text("./pinned\n")
    with (folder / "uv.toml").open("a") as file:
        file.write('[pip]\npython = "./named"\n')


@pytest.mark.parametrize("planted", ["app", "."])
@pytest.mark.parametrize("name", ["requirements.txt", "uv.lock"])
async def test_no_program_of_the_folder_or_one_above_it_is_started(
    workshop: Workshop, make_wheel: MakeWheel, name: str, planted: str
) -> None:
    make_wheel("demo")
    app, marks = workshop.app, workshop.folder / "marks"
    wheels = f'no-index = true\nfind-links = ["{workshop.folder}/wheels"]\n'
    (app / "uv.toml").write_text(wheels)
    (app / "requirements.txt").write_text("demo\n")
    (app / "pyproject.toml").write_text(
        '[project]\nname = "project"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["demo"]\n'
    )
    subprocess.run([uv.find_uv_bin(), "lock", "--quiet"], cwd=app, check=True)
    plant(workshop.folder / planted, marks)
    built = await workshop.build(requirements=app / name)
    assert "demo 1.0" in dict(built.platforms["linux/amd64"].layers)
    assert not marks.exists()
    subprocess.run([uv.find_uv_bin(), "pip", "compile", "--quiet", "requirements.txt"], cwd=app, check=True)
    assert marks.exists()


@pytest.mark.parametrize("name", ["requirements.txt", "uv.lock"])
@pytest.mark.parametrize("isolation", ["no-build-isolation = true", 'no-build-isolation-package = ["sd"]'])
async def test_no_build_runs_in_the_interpreters_own_environment(
    workshop: Workshop, name: str, isolation: str
) -> None:
    marks, app = workshop.folder / "marks", workshop.app
    files = {
        "sd-1.0/PKG-INFO": "Metadata-Version: 2.1\nName: sd\nVersion: 1.0\n",
        "sd-1.0/pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]\n'
        '[project]\nname = "sd"\nversion = "1.0"\ndynamic = ["dependencies"]\n',
        "sd-1.0/b.py": f"open({str(marks)!r}, 'w')\n",
    }
    (workshop.folder / "wheels/sd-1.0.tar.gz").write_bytes(gzip.compress(tar_of(files)))
    (app / "requirements.txt").write_text("sd\n")
    wheels = f'no-index = true\nfind-links = ["{workshop.folder}/wheels"]\n'
    (app / "uv.toml").write_text(f'{wheels}{isolation}\nno-binary-package = ["sd"]\n[pip]\n{isolation}\n')
    (app / "pyproject.toml").write_text(
        '[project]\nname = "project"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["sd"]\n'
    )
    (app / "uv.lock").write_text('version = 1\nrevision = 3\nrequires-python = ">=3.9"\n')
    with pytest.raises(errors.GpuyardError):
        await workshop.build(requirements=app / name)
    assert not marks.exists()


@pytest.mark.parametrize("where", ["folder", "user"])
async def test_only_the_users_own_configuration_has_a_keyring_asked(
    workshop: Workshop, index: Index, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    make_wheel("demo")
    marks = workshop.folder / "marks"
    keyring = workshop.folder / "bin/keyring"
    program(keyring, marks)
    keyring.write_text(f"#!/bin/sh\necho $* >> {marks}\necho secret\n")
    use_environ(workshop, monkeypatch, PATH=f"{workshop.folder}/bin:{os.environ['PATH']}")
    asks = 'keyring-provider = "subprocess"\n'
    (workshop.folder / "uv.toml").unlink()
    (workshop.folder / ".config/uv").mkdir(parents=True)
    (workshop.folder / ".config/uv/uv.toml").write_text(asks if where == "user" else "")
    url = index.url(user="me@")
    (workshop.app / "uv.toml").write_text(f'index-url = "{url}"\n{asks if where == "folder" else ""}')
    requirements = workshop.require("demo")
    if where == "folder":
        with pytest.raises(errors.GpuyardError):
            await workshop.build(requirements=requirements, file=workshop.app / "gpuyard.lock")
        assert not marks.exists()
    else:
        await workshop.build(requirements=requirements, file=workshop.app / "gpuyard.lock")
        assert marks.exists()
