from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
import uv

from gpuyard import errors
from gpuyard.building.environment import PREFIX
from gpuyard.building.request import Keeping
from tests.unit.building.test_revision import git_commit
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
    with pytest.raises(errors.BuildError, match=r"its setup\.py has to be run") as caught:
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


BACKEND = """\
import os, zipfile

METADATA = "Metadata-Version: 2.1\\nName: own\\nVersion: 1.0\\nRequires-Dist: demo\\n"

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "own-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        def add(path, text):
            archive.writestr(zipfile.ZipInfo(path), text)
        add("own.py", open("own.py").read())
        add("own-1.0.dist-info/METADATA", METADATA)
        add("own-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        add("own-1.0.dist-info/entry_points.txt", "[console_scripts]\\nown = own:main\\n")
        add("own-1.0.dist-info/RECORD", "")
    return name

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = "own-1.0.dist-info"
    os.mkdir(os.path.join(folder, info))
    open(os.path.join(folder, info, "METADATA"), "w").write(METADATA)
    return info
"""
IN_TREE = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def write_own(folder: Path, code: str = "def main(): print('one')\n") -> Path:
    """A project that only its own backend knows how to build."""
    folder.mkdir(exist_ok=True)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "pyproject.toml").write_text(IN_TREE)
    (folder / "own.py").write_text(code)
    return folder


async def test_a_project_that_is_built_has_a_layer_of_its_own(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("demo")
    write_own(workshop.app)
    file = workshop.require("-e app")
    with pytest.raises(errors.BuildError, match="its build backend lies in the project itself"):
        await workshop.build(requirements=file)
    result = await workshop.build(requirements=file, build_project=True)
    (image,) = result.platforms.values()
    assert [title for title, _ in image.layers] == ["demo 1.0", "own 1.0", "application"]
    members = await workshop.layer(-2)
    assert members[f"{SITE}/own.py"][1] == b"def main(): print('one')\n"
    assert members[f"{PREFIX.strip('/')}/bin/own"][0].mode == 0o755
    lock = (workshop.app / "gpuyard.lock").read_text()
    assert "own-1.0" not in lock, "it changes with each edit"
    assert any("building a wheel of" in text for text in workshop.heard.said)

    write_own(workshop.app, "def main(): print('two')\n")
    await workshop.build(requirements=file, build_project=True)
    assert (await workshop.layer(-2))[f"{SITE}/own.py"][1] == b"def main(): print('two')\n"
    assert (workshop.app / "gpuyard.lock").read_text() == lock
    workshop.heard.said.clear()
    assert (await workshop.build(requirements=file, build_project=True)).unchanged
    assert not workshop.heard.said


@pytest.mark.parametrize("name", ["pyproject.toml", "uv.lock"])
async def test_of_a_projects_file_only_what_decides_wheels_is_locked(
    name: str, workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("demo")
    write_project(workshop)
    file = workshop.app / "pyproject.toml"
    text = PYPROJECT + f"[tool.uv]\nno-index = true\nfind-links = ['{workshop.folder}/wheels']\n"
    file.write_text(text)
    subprocess.run([uv.find_uv_bin(), "lock", "-q", "--no-cache"], cwd=workshop.app, check=True)
    await workshop.build(requirements=workshop.app / name)
    file.write_text(text.replace("[project]", "# Ours.\n[tool.ruff]\nline-length = 100\n[project]"))
    await workshop.build(requirements=workshop.app / name, keeping=Keeping.LOCKED)
    for more in ('constraint-dependencies = ["demo<2"]\n', ""):
        file.write_text(text.replace('["demo"]', '["demo>=1"]') if not more else text + more)
        with pytest.raises(
            errors.GpuyardError, match=r"the requirements changed|is older than its pyproject"
        ):
            await workshop.build(requirements=workshop.app / name, keeping=Keeping.LOCKED)


async def test_what_is_allowed_and_builds_nothing_is_said(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo")
    file = workshop.require("demo")
    await workshop.build(requirements=file, build_project=True, build_sources=("Nosuch", "demo", ":all:"))
    assert [text for text in workshop.heard.said if "builds nothing" in text] == [
        "warning: --build-project builds nothing: requirements.txt names no project of your own",
        "warning: --build-sources nosuch builds nothing: no such package goes into the image",
    ]


def write_archive(workshop: Workshop) -> Path:
    """The same among the wheels, as an archive of sources."""
    write_own(workshop.folder / "own-1.0")
    (workshop.folder / "own-1.0/PKG-INFO").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    wheels = str(workshop.folder / "wheels" / "own-1.0")
    return Path(shutil.make_archive(wheels, "gztar", workshop.folder, "own-1.0"))


def write_repository(workshop: Workshop) -> Path:
    folder = write_own(workshop.folder / "repository")
    git_commit(folder)
    return folder


@pytest.mark.parametrize("asked", ["index", "archive", "relative", "git"])
async def test_sources_are_built_when_they_are_named(
    asked: str, workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("demo")
    archive, repository = write_archive(workshop), write_repository(workshop)
    line = {
        "index": "own",
        "archive": f"own @ file://{archive}",
        "relative": "own @ ./wheels/own-1.0.tar.gz",
        "git": f"own @ git+file://{repository}",
    }[asked]
    file = workshop.require(line)
    with pytest.raises(errors.BuildError) as caught:
        await workshop.build(requirements=file)
    assert "--build-sources own" in caught.value.remedy
    first = await workshop.build(requirements=file, build_sources=("Own",))
    lock = (workshop.app / "gpuyard.lock").read_text()
    (written,) = (line for line in lock.splitlines() if "own-1.0" in line)
    if asked == "git":
        commit = subprocess.check_output(["git", "-C", repository, "rev-parse", "HEAD"], text=True).strip()
        assert f'source = "git+file://{repository}@{commit}"' in written
    else:
        sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
        # As it is seen from the lock, so that the lock holds in another place.
        place = "own-1.0.tar.gz" if asked == "index" else "../wheels/own-1.0.tar.gz"
        assert f'"{place}#sha256={sha256}"' in written
    assert f"{SITE}/own.py" in await workshop.layer(-2) and "demo-1.0" in lock

    workshop.heard.said.clear()
    assert (await workshop.build(requirements=file, build_sources=("own",))).unchanged
    assert not workshop.heard.said, "nothing is built again"
    shutil.rmtree(workshop.folder / "cache")
    shutil.rmtree(workshop.folder / "out")
    again = await workshop.build(requirements=file, build_sources=("own",))
    assert again.digest == first.digest
    assert any("building a wheel of" in text for text in workshop.heard.said)


async def test_an_archive_of_sources_made_anew_is_noticed(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo")
    write_archive(workshop)
    file = workshop.require("own @ ./wheels/own-1.0.tar.gz")
    await workshop.build(requirements=file, build_sources=("own",))
    write_own(workshop.folder / "own-1.0", "def main(): print('two')\n")
    shutil.make_archive(str(workshop.folder / "wheels/own-1.0"), "gztar", workshop.folder, "own-1.0")
    await workshop.build(requirements=file, build_sources=("own",))
    assert any("../wheels/own-1.0.tar.gz was made anew" in text for text in workshop.heard.said)
    members = [await workshop.layer(number) for number in (-2, -3)]
    assert b"def main(): print('two')\n" in [
        layer[f"{SITE}/own.py"][1] for layer in members if f"{SITE}/own.py" in layer
    ]


async def test_all_sources_are_built_when_none_is_named(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo")
    write_archive(workshop)
    await workshop.build(requirements=workshop.require("own", "demo"), build_sources=(":all:",))
    assert 'source = "own-1.0.tar.gz#sha256=' in (workshop.app / "gpuyard.lock").read_text()


async def test_a_wheel_that_comes_out_other_than_it_was_locked(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("demo")
    archive = write_archive(workshop)
    file = workshop.require(f"own @ file://{archive}")
    await workshop.build(requirements=file, build_sources=("own",))
    lock = workshop.app / "gpuyard.lock"
    was = next(line for line in lock.read_text().splitlines() if "own-1.0" in line)
    sha256 = was.partition('sha256 = "')[2][:64]
    lock.write_text(lock.read_text().replace(sha256, "0" * 64))
    shutil.rmtree(workshop.folder / "out")
    with pytest.raises(errors.BuildError, match="is another than the lock names: its hash is " + sha256):
        await workshop.build(requirements=file, build_sources=("own",))
    with pytest.raises(errors.BuildError, match="asks for sources"):
        await workshop.build(requirements=file)


async def test_a_conda_environment_gives_wheels(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo", "1.2")
    file = workshop.app / "environment.yml"
    file.write_text("name: x\ndependencies: [python=3.11, demo=1.2, ffmpeg]\n")
    await workshop.build(requirements=file)
    assert "demo-1.2" in (workshop.app / "gpuyard.lock").read_text()
    assert any("no Python packages: ffmpeg" in text for text in workshop.heard.said)
    file.write_text("name: x\ndependencies: [python=3.9, demo=1.2]\n")
    with pytest.raises(errors.ResolveError, match=r"environment\.yml requires Python ==3\.9\.\*"):
        await workshop.build(requirements=file)


async def test_the_members_of_a_workspace_that_uv_locked(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo")
    make_wheel("extra")
    root = workshop.app
    lib = root / "packages/lib"
    (lib / "src/lib").mkdir(parents=True)
    (lib / "src/lib/__init__.py").write_text("x = 1\n")
    (lib / "pyproject.toml").write_text(
        PYPROJECT.replace('"my-app"', '"lib"').replace('["demo"]', '["extra"]').replace("my_app", "lib")
    )
    write_project(workshop)
    (root / "pyproject.toml").write_text(
        PYPROJECT.replace('["demo"]', '["demo", "lib"]')
        + "[tool.uv.workspace]\nmembers = ['packages/*']\n[tool.uv.sources]\nlib = {workspace = true}\n"
        + f"[tool.uv]\nno-index = true\nfind-links = ['{workshop.folder}/wheels']\n"
    )
    subprocess.run([uv.find_uv_bin(), "lock", "-q", "--no-cache"], cwd=root, check=True)
    result = await workshop.build(requirements=root / "uv.lock")
    (image,) = result.platforms.values()
    assert [title for title, _ in image.layers] == ["2 wheels", "application"]
    members = await workshop.layer(-1)
    assert members[f"{SITE}/__editable__.lib.pth"][1] == b"/workspace/packages/lib/src\n"
    assert members[f"{SITE}/__editable__.my-app.pth"][1] == b"/workspace/src\n"
    assert (await workshop.build(requirements=root / "uv.lock")).unchanged


async def test_a_member_elsewhere_is_packed(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo")
    lib = workshop.folder / "lib"
    (lib / "lib").mkdir(parents=True)
    (lib / "lib/__init__.py").write_text("x = 1\n")
    (lib / "pyproject.toml").write_text(PYPROJECT.replace('"my-app"', '"lib"').replace("my_app", "lib"))
    await workshop.build(requirements=workshop.require("-e lib"))
    members = await workshop.layer(-1)
    assert members[f"{SITE}/lib/__init__.py"][1] == b"x = 1\n"
    assert f"{SITE}/__editable__.lib.pth" not in members


async def test_a_lock_of_uv_may_have_sources(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo")
    repository = write_repository(workshop)
    (workshop.app / "pyproject.toml").write_text(
        "[project]\nname = 'app'\nversion = '1'\nrequires-python = '>=3.9'\ndependencies = ['own']\n"
        f"[tool.uv]\nno-index = true\nfind-links = ['{workshop.folder}/wheels']\n"
        f"[tool.uv.sources]\nown = {{git = 'file://{repository}'}}\n"
    )
    subprocess.run([uv.find_uv_bin(), "lock", "-q", "--no-cache"], cwd=workshop.app, check=True)
    lock = workshop.app / "uv.lock"
    with pytest.raises(errors.BuildError, match="own from file") as caught:
        await workshop.build(requirements=lock)
    assert "--build-sources own" in caught.value.remedy
    await workshop.build(requirements=lock, build_sources=("own",))
    assert f'source = "git+file://{repository}@' in (workshop.app / "gpuyard.lock").read_text()
    assert f"{SITE}/own.py" in await workshop.layer(-2)


@pytest.mark.parametrize(
    ("name", "content", "is_told"),
    [
        ("pyproject.toml", "[project]\nname = 'x'\nversion = '1'\n", True),
        ("pyproject.toml", "[tool.ruff]\nline-length = 100\n", False),
        ("requirements.txt", "demo\n", True),
        ("notes.txt", "demo\n", False),
    ],
)
async def test_what_nothing_asks_for_is_named_once(
    name: str, content: str, is_told: bool, workshop: Workshop
) -> None:
    (workshop.app / name).write_text(content)
    for _ in range(2):
        await workshop.build()
    told = [line for line in workshop.heard.said if "nothing of it is installed" in line]
    line = f"{name} is here, and nothing of it is installed; add `requirements: {name}` to have it"
    assert told == [line] * is_told
