from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.environment import PREFIX, Environment
from gpuyard.building.project.installed import Workdir, project_entries
from gpuyard.building.project.project import read_project
from gpuyard.images.contents.contents import Interpreter
from gpuyard.images.layers import Entry, with_parents
from tests.unit.building.project.conftest import WriteFiles

ENVIRONMENT = Environment(Interpreter(f"/usr/bin/python3.{sys.version_info[1]}", sys.version_info[1]))
SITE = ENVIRONMENT.site_packages.strip("/")
PYPROJECT = """\
[build-system]
requires = ["{backend}"]
build-backend = "{backend}.build{meta}"
[project]
name = "my-app"
version = "1.0"
dependencies = ["numpy"]
[project.scripts]
my-train = "my_app.train:main"
[project.entry-points.models]
small = "my_app.train:main"
"""
SETUPTOOLS = PYPROJECT.format(backend="setuptools", meta="_meta")
HATCHLING = PYPROJECT.format(backend="hatchling", meta="")
CODE = {
    "__init__.py": "",
    "train.py": "import os, pathlib\n\ndef main():\n"
    "    print(os.getcwd(), (pathlib.Path(__file__).parent / 'data.txt').read_text())\n",
    "data.txt": "data",
}


def below(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files.items()}


def files_of(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Puts a project's entries and the workdir's files into a folder, as an image has them."""

    def put(project: Path, root: Path) -> Path:
        image = tmp_path / "image"
        workdir = Workdir(root, files_of(root), str(image / "workspace"))
        for name in workdir.files:
            place = image / "workspace" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((root / name).read_bytes())
        for entry in with_parents(project_entries(read_project(project, {}), workdir, ENVIRONMENT)):
            _write(image, entry)
        return image

    return put


def _write(image: Path, entry: Entry) -> None:
    place = image / entry.path
    if entry.target:
        place.symlink_to(entry.target)
    elif entry.content is None:
        place.mkdir(exist_ok=True, parents=True)
    else:
        place.write_bytes(b"".join(entry.content()))


def run(image: Path, code: str, cwd: str = "/") -> str:
    """What a Python prints that has the image's site-packages and nothing of this one's."""
    begin = f"import site; site.addsitedir({str(image / SITE)!r})\n"
    done = subprocess.run(
        [sys.executable, "-ISB", "-c", begin + code], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("pyproject", "package"),
    [
        (SETUPTOOLS, "src/my_app"),
        (SETUPTOOLS, "my_app"),
        (HATCHLING, "src/my_app"),
        (SETUPTOOLS + '[tool.setuptools]\npackages = ["my_app"]\npackage-dir = {my_app = "code"}\n', "code"),
    ],
)
def test_it_is_imported_from_the_workdir_wherever_one_stands(
    pyproject: str, package: str, write_files: WriteFiles, install: Install
) -> None:
    folder = write_files({"pyproject.toml": pyproject, **below(package, CODE)})
    image = install(folder, folder)
    assert run(image, "from my_app.train import main; main()") == "/ data\n"
    (image / "workspace" / package / "data.txt").write_text("edited")
    assert run(image, "from my_app.train import main; main()", "/usr") == "/usr edited\n"


def test_its_metadata_are_those_of_an_installed_distribution(
    write_files: WriteFiles, install: Install
) -> None:
    folder = write_files({"pyproject.toml": SETUPTOOLS, **below("src/my_app", CODE)})
    code = """
import importlib.metadata as m
found = m.distribution("my-app")
assert found.version == "1.0" and found.requires == ["numpy"], found.requires
(point,) = m.entry_points(group="models")
point.load()()
assert all(file.locate().exists() for file in found.files if not str(file).startswith("../.."))
"""
    image = install(folder, folder)
    assert run(image, code) == "/ data\n"
    script = (image / PREFIX.strip("/") / "bin/my-train").read_text()
    assert script.startswith(f"#!{PREFIX}/bin/python\n") and "from my_app.train import main" in script
    (url,) = (image / SITE).glob("my_app-1.0.dist-info/direct_url.json")
    assert json.loads(url.read_text()) == {"url": f"file://{image}/workspace", "dir_info": {"editable": True}}


def test_what_lies_elsewhere_is_packed(write_files: WriteFiles, install: Install) -> None:
    folder = write_files(
        {
            "app/train.py": "",
            "lib/pyproject.toml": HATCHLING,
            **below("lib/src/my_app", {**CODE, "__pycache__/x.pyc": ""}),
        }
    )
    image = install(folder / "lib", folder / "app")
    assert run(image, "from my_app.train import main; main()") == "/ data\n"
    assert files_of(image / SITE / "my_app") == set(CODE)


def test_a_project_that_stands_above_the_workdir(write_files: WriteFiles, install: Install) -> None:
    folder = write_files({"pyproject.toml": SETUPTOOLS, **below("src/my_app", CODE)})
    image = install(folder, folder / "src")
    assert run(image, "import my_app; print(my_app.__file__)") == f"{image}/workspace/my_app/__init__.py\n"


def test_a_namespace_is_shared_with_wheels(write_files: WriteFiles, install: Install) -> None:
    pyproject = SETUPTOOLS.replace("my_app.train", "org.my_app.train")
    folder = write_files({"pyproject.toml": pyproject, **below("src/org/my_app", CODE)})
    image = install(folder, folder)
    (image / SITE / "org/other").mkdir(parents=True)
    assert run(image, "import org.my_app.train, org.other; org.my_app.train.main()") == "/ data\n"


def test_packages_that_stay_out_of_the_image_are_named(write_files: WriteFiles) -> None:
    folder = write_files({"pyproject.toml": SETUPTOOLS, **below("src/my_app", CODE)})
    workdir = Workdir(folder, {"pyproject.toml", "src/other.py"}, "/workspace")
    with pytest.raises(errors.BuildError, match="my_app, a part of my-app, is kept out") as caught:
        project_entries(read_project(folder, {}), workdir, ENVIRONMENT)
    assert ".gpuyardignore" in caught.value.remedy
