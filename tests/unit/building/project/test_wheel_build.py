from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.project.metadata import ProjectMetadata
from gpuyard.building.project.wheel_build import WheelBuilder
from gpuyard.building.python.wheels import wheel_path
from gpuyard.images.cache import Cache
from gpuyard.images.contents.contents import ImageContents, Interpreter
from gpuyard.images.layers import EPOCH
from gpuyard.images.oci import Platform
from tests.unit.building.project.conftest import WriteFiles

MINOR = sys.version_info[1]
PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
#: A backend that needs no other: it packs what lies in `pkg`, and notes the environment that it sees.
BACKEND = """\
import os, sys, zipfile

TAG = "py3-none-any"
INFO = "own-1.0.dist-info"

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = f"own-1.0-{TAG}.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        def add(path, text):
            archive.writestr(zipfile.ZipInfo(path), text)
        for path in sorted(os.listdir("pkg")):
            add(f"own/{path}", open(f"pkg/{path}").read())
        add("own/environ.txt", "\\n".join(f"{k}={v}" for k, v in sorted(os.environ.items())))
        add(f"{INFO}/METADATA", "Metadata-Version: 2.1\\nName: own\\nVersion: 1.0\\n"
            "Requires-Dist: numpy>=1\\nRequires-Dist: torch; extra == 'gpu'\\n")
        add(f"{INFO}/WHEEL", f"Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {TAG}\\n")
        add(f"{INFO}/RECORD", "")
    return name
"""
FILES = {"pyproject.toml": PYPROJECT, "backend.py": BACKEND, "pkg/__init__.py": "", "pkg/a.py": "x = 1\n"}


@dataclass
class Bench:
    """A builder, and what it says."""

    builder: WheelBuilder
    said: list[str] = field(default_factory=list)

    async def names(self, folder: Path) -> set[str]:
        wheel = await self.builder.of_folder(folder)
        with zipfile.ZipFile(wheel_path(self.builder.cache, wheel)) as archive:
            return set(archive.namelist())

    async def environ(self, folder: Path) -> dict[str, str]:
        wheel = await self.builder.of_folder(folder)
        with zipfile.ZipFile(wheel_path(self.builder.cache, wheel)) as archive:
            lines = archive.read("own/environ.txt").decode().splitlines()
        return dict(line.partition("=")[::2] for line in lines)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    said: list[str] = []
    builder = WheelBuilder(
        Platform.parse("linux/amd64"),
        ImageContents(Interpreter(f"/usr/bin/python3.{MINOR}", MINOR), libc="glibc", libc_version=(2, 36)),
        Cache(tmp_path / "cache"),
        {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "mine"), "UV_OFFLINE": "1"},
        tmp_path,
        EPOCH,
        said.append,
    )
    return Bench(builder, said)


async def test_a_wheel_is_built_once_for_the_same_files(bench: Bench, write_files: WriteFiles) -> None:
    folder = write_files({**FILES, ".gitignore": "data\n", "data/big.bin": "x"})
    first = await bench.builder.of_folder(folder)
    assert first.file == "own-1.0-py3-none-any.whl"
    assert len(bench.said) == 1 and str(folder) in bench.said[0]
    (folder / "data/more.bin").write_text("ignored")
    assert await bench.builder.of_folder(folder) == first and len(bench.said) == 1
    (folder / "pkg/a.py").write_text("x = 2\n")
    assert (await bench.builder.of_folder(folder)).sha256 != first.sha256 and len(bench.said) == 2
    assert not list(folder.rglob("*.egg-info")) and not (folder / "build").exists()


async def test_a_large_file_counts_by_what_it_holds(bench: Bench, write_files: WriteFiles) -> None:
    folder = write_files(FILES)
    large = folder / "table.bin"
    with large.open("wb") as file:
        file.truncate(17_000_000)
    first = await bench.builder.of_folder(folder)
    os.utime(large)
    shutil.copy(large, folder / "copy.bin")
    (folder / "copy.bin").replace(large)
    assert await bench.builder.of_folder(folder) == first and len(bench.said) == 1
    with large.open("r+b") as file:
        file.write(b"other")
    await bench.builder.of_folder(folder)
    assert len(bench.said) == 2


async def test_a_wheel_that_the_cache_lost_is_built_again(bench: Bench, write_files: WriteFiles) -> None:
    folder = write_files(FILES)
    first = await bench.builder.of_folder(folder)
    wheel_path(bench.builder.cache, first).unlink()
    again = await bench.builder.of_folder(folder)
    assert wheel_path(bench.builder.cache, again).exists() and len(bench.said) == 2


async def test_a_build_sees_no_secrets_and_a_home_of_its_own(bench: Bench, write_files: WriteFiles) -> None:
    environ = {
        **bench.builder.environ,
        "AWS_SECRET_ACCESS_KEY": "x",
        "UV_PUBLISH_TOKEN": "x",
        "CFLAGS": "-O1",
    }
    bench.builder = replace(bench.builder, environ=environ)
    found = await bench.environ(write_files(FILES))
    assert not {"AWS_SECRET_ACCESS_KEY", "UV_PUBLISH_TOKEN"} & found.keys()
    assert found["CFLAGS"] == "-O1" and found["SOURCE_DATE_EPOCH"] == str(EPOCH)
    assert found["HOME"] != environ["HOME"] and not Path(found["HOME"]).exists()


async def test_what_a_compiler_is_told_makes_another_wheel(bench: Bench, write_files: WriteFiles) -> None:
    folder = write_files(FILES)
    await bench.builder.of_folder(folder)
    bench.builder = replace(bench.builder, environ={**bench.builder.environ, "CFLAGS": "-O1"})
    await bench.builder.of_folder(folder)
    assert len(bench.said) == 2


async def test_a_failing_build_shows_what_it_said(bench: Bench, write_files: WriteFiles) -> None:
    folder = write_files({**FILES, "backend.py": "import sys\nprint('the compiler is ill')\nsys.exit(3)\n"})
    with pytest.raises(errors.BuildError, match="the compiler is ill") as caught:
        await bench.builder.of_folder(folder)
    assert f"the build of {folder} failed" in caught.value.message


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("cp39-cp39-linux_x86_64", "doesn't fit the base"),
        (f"cp3{MINOR}-cp3{MINOR}-linux_aarch64", "doesn't fit the base"),
        (f"cp3{MINOR}-cp3{MINOR}-macosx_11_0_arm64", "doesn't fit the base"),
    ],
)
async def test_a_wheel_for_another_machine_is_refused(
    tag: str, words: str, bench: Bench, write_files: WriteFiles
) -> None:
    folder = write_files({**FILES, "backend.py": BACKEND.replace("py3-none-any", tag)})
    with pytest.raises(errors.BuildError, match=words):
        await bench.builder.of_folder(folder)


async def test_native_code_wants_the_bases_python(bench: Bench, write_files: WriteFiles) -> None:
    contents = replace(bench.builder.contents, python=Interpreter("/usr/bin/python3.7", 7))
    bench.builder = replace(bench.builder, contents=contents)
    folder = write_files(FILES)
    assert await bench.names(folder), "what is pure is built by any"
    (folder / "backend.py").write_text(BACKEND.replace("py3-none-any", "cp37-cp37-linux_x86_64"))
    with pytest.raises(errors.BuildError, match=r"there is no python3\.7 here"):
        await bench.builder.of_folder(folder)


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    return subprocess.check_output(["git", *who, "-C", str(folder), *words], text=True)


@pytest.fixture
def repository(write_files: WriteFiles) -> Path:
    """Of a project whose build asks git what its version is, and writes where it may."""
    asks = (
        'add("own/version.txt", subprocess.check_output(["git", "describe", "--tags", "--always", "--dirty"'
        "]))\n"
        '        subprocess.check_call(["git", "rm", "-q", "--cached", "pkg/a.py"])\n'
        '        subprocess.check_call(["git", "update-ref", "refs/heads/of-the-build", "HEAD"])\n'
        '        add("own/environ.txt"'
    )
    backend = BACKEND.replace("import os", "import subprocess, os").replace('add("own/environ.txt"', asks)
    folder = write_files({**FILES, "backend.py": backend})
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "one")
    return folder


async def version(bench: Bench, folder: Path) -> str:
    wheel = await bench.builder.of_folder(folder)
    with zipfile.ZipFile(wheel_path(bench.builder.cache, wheel)) as archive:
        return archive.read("own/version.txt").decode().strip()


async def test_a_build_finds_its_commit_and_its_tags(bench: Bench, repository: Path) -> None:
    assert await version(bench, repository) == git(repository, "rev-parse", "--short", "HEAD").strip()
    git(repository, "tag", "v1.0")
    assert await version(bench, repository) == "v1.0"
    git(repository, "pack-refs", "--all")
    assert await version(bench, repository) == "v1.0" and len(bench.said) == 2
    git(repository, "commit", "-q", "--allow-empty", "-m", "two")
    assert (await version(bench, repository)).startswith("v1.0-1-g")
    (repository / "new.py").write_text("")
    assert not (await version(bench, repository)).endswith("dirty")
    git(repository, "add", "new.py")
    assert (await version(bench, repository)).endswith("dirty")


@pytest.mark.parametrize("worktree", [False, True])
async def test_a_build_has_a_repository_of_its_own(
    worktree: bool, bench: Bench, repository: Path, tmp_path: Path
) -> None:
    if worktree:
        git(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    folder = tmp_path / "linked" if worktree else repository
    git(folder, "status")
    index = Path(git(folder, "rev-parse", "--absolute-git-dir").strip(), "index")
    before, refs = index.read_bytes(), git(folder, "for-each-ref")
    assert not (await version(bench, folder)).endswith("dirty")
    assert index.read_bytes() == before and git(folder, "for-each-ref") == refs


async def test_the_configuration_of_a_repository_starts_nothing(
    bench: Bench, repository: Path, tmp_path: Path
) -> None:
    git(repository, "tag", "v1.0")
    for name in ("core.fsmonitor", "core.sshCommand", "filter.own.clean", "uploadpack.packObjectsHook"):
        git(repository, "config", name, f"touch {tmp_path}/started-{name};")
    (repository / ".git" / "info" / "attributes").write_text("* filter=own\n")
    os.utime(repository / "pkg" / "a.py", (1, 1))
    assert (await version(bench, repository)).startswith("v1.0")
    assert list(tmp_path.glob("started-*")) == []


async def test_a_repository_that_git_refuses_is_left_out_and_said(
    bench: Bench, write_files: WriteFiles
) -> None:
    folder = write_files(FILES)
    (folder / ".git").mkdir()
    assert await bench.names(folder)
    assert any("not a git repository" in text for text in bench.said)


async def test_a_wheels_metadata_tell_what_it_requires(bench: Bench, write_files: WriteFiles) -> None:
    wheel = await bench.builder.of_folder(write_files(FILES))
    metadata = ProjectMetadata.of_wheel(wheel_path(bench.builder.cache, wheel))
    assert (metadata.name, metadata.version) == ("own", "1.0")
    assert metadata.required() == ["numpy>=1"]
    assert [text.partition(" ")[0] for text in metadata.required(["gpu"])] == ["numpy>=1", "torch"]
