from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.project.project import Project, read_project
from gpuyard.building.project.reading import read_requested
from gpuyard.building.project.requested import Requested
from tests.unit.building.project.conftest import WriteFiles


def pyproject(name: str, *dependencies: str, more: str = "", system: bool = True) -> str:
    build = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n' if system else ""
    needs = ", ".join(f'"{text}"' for text in dependencies)
    return f'{build}[project]\nname = "{name}"\nversion = "1.0"\ndependencies = [{needs}]\n{more}'


async def requested(path: Path, **environ: str) -> Requested:
    async def read(folder: Path) -> Project:
        return read_project(folder, environ)

    return await read_requested(path, read, environ)


def inputs(found: Requested, tmp_path: Path) -> str:
    """What uv would read, all files after one another."""
    place = tmp_path / "inputs"
    place.mkdir()
    return "".join(path.read_text() for path in found.inputs(place))


@pytest.mark.parametrize(
    "line", ["-e .", ".", "-e ./", "--editable=.", "-e file://{here}", "my-app @ file://{here}", "."]
)
async def test_a_folder_in_a_requirements_file_is_a_project(
    line: str, write_files: WriteFiles, tmp_path: Path
) -> None:
    folder = write_files({"pyproject.toml": pyproject("my-app", "numpy>=1"), "my_app/__init__.py": ""})
    file = folder / "requirements.txt"
    file.write_text(
        f"scipy\n{line.format(here=folder)}  # mine\n--extra-index-url https://example.com/simple\n"
    )
    found = await requested(file)
    assert list(found.projects) == ["my-app"]
    text = inputs(found, tmp_path)
    assert "scipy\n" in text and "--extra-index-url https://example.com/simple\n" in text
    assert '"numpy>=1"' in text and line not in text.split()
    assert found.asked == {"numpy": ["numpy>=1"]}


async def test_requirements_without_projects_are_read_as_they_are(
    write_files: WriteFiles, tmp_path: Path
) -> None:
    folder = write_files({"r.txt": "numpy\n-r more.txt\n", "more.txt": "./dist/x-1.0-py3-none-any.whl\n"})
    found = await requested(folder / "r.txt")
    assert found.inputs(tmp_path) == [folder / "r.txt"]
    assert not found.projects and not found.fingerprint


async def test_included_files_are_looked_through(write_files: WriteFiles, tmp_path: Path) -> None:
    folder = write_files(
        {
            "r.txt": "-r sub/more.txt\n-c limits.txt\ntorch \\\n  --hash=sha256:00\n",
            "limits.txt": "numpy<2\n",
            "sub/more.txt": "-e ../lib[fast]\n-f wheels\n",
            "lib/pyproject.toml": pyproject(
                "lib", "a", more="[project.optional-dependencies]\nfast = ['b', 'lib[more]']\nmore = ['c']\n"
            ),
            "lib/lib/__init__.py": "",
        }
    )
    found = await requested(folder / "r.txt")
    text = inputs(found, tmp_path)
    assert f"-c {folder}/limits.txt" in text and "torch    --hash=sha256:00" in text
    assert 'dependencies = ["a", "b", "c"]' in text
    (more,) = (tmp_path / "inputs").rglob("*-more.txt")
    assert more.read_text() == f"\n-f {folder}/sub/wheels\n"


async def test_projects_that_require_one_another(write_files: WriteFiles, tmp_path: Path) -> None:
    folder = write_files(
        {
            "r.txt": "-e ./one\n-e ./two ; sys_platform == 'linux'\n",
            "one/pyproject.toml": pyproject("one", "two", "numpy"),
            "one/one.py": "",
            "two/pyproject.toml": pyproject("two", "one", "scipy"),
            "two/two.py": "",
        }
    )
    found = await requested(folder / "r.txt")
    assert found.projects.keys() == {"one", "two"}
    assert found.projects["two"].marker == "sys_platform == 'linux'"
    assert found.asked == {"numpy": ["numpy"], "scipy": ["scipy ; sys_platform == 'linux'"]}
    assert '["numpy"]' in inputs(found, tmp_path)


@pytest.mark.parametrize("name", ["pyproject.toml", "uv.lock"])
async def test_a_workspace(name: str, write_files: WriteFiles, tmp_path: Path) -> None:
    root = pyproject(
        "app",
        "lib[fast]",
        "loose",
        "torch",
        more="[tool.uv.workspace]\nmembers = ['packages/*']\n"
        "[tool.uv.sources]\nlib = {workspace = true}\nloose = {path = '../loose', editable = true}\n"
        "torch = {index = 'cpu'}\n"
        "[[tool.uv.index]]\nname = 'cpu'\nurl = 'https://example.com/cpu'\nexplicit = true\n",
    )
    folder = write_files(
        {
            "app/pyproject.toml": root,
            "app/uv.lock": "version = 1\n",
            "app/app/__init__.py": "",
            "app/packages/lib/pyproject.toml": pyproject(
                "lib",
                "inner",
                "torch>=2",
                more="[project.optional-dependencies]\nfast = ['numba']\n"
                "[tool.uv.sources]\ninner = {workspace = true}\n",
            ),
            "app/packages/lib/src/lib/__init__.py": "",
            "app/packages/inner/pyproject.toml": pyproject("inner", "numpy", system=False),
            "app/packages/other/pyproject.toml": pyproject("other", "nothing"),
            "loose/pyproject.toml": pyproject("loose", "scipy"),
            "loose/loose.py": "",
        }
    )
    found = await requested(folder / "app" / name)
    assert found.projects.keys() == {"app", "lib", "loose"}, "inner has no build system: it is virtual"
    assert found.asked.keys() == {"torch", "numba", "numpy", "scipy"}
    text = inputs(found, tmp_path)
    assert text.count('torch = {index = "cpu"}') == 2, "members have the sources of their workspace"
    assert "loose" not in text.replace('name = "loose"', "")


async def test_a_pyproject_without_a_build_system_gives_its_requirements_only(
    write_files: WriteFiles,
) -> None:
    folder = write_files({"pyproject.toml": pyproject("my-app", "numpy", system=False)})
    found = await requested(folder / "pyproject.toml")
    assert not found.projects and found.asked == {"numpy": ["numpy"]}
    (folder / "pyproject.toml").write_text(pyproject("my-app", "numpy", more="[tool.uv]\npackage = false\n"))
    assert not (await requested(folder / "pyproject.toml")).projects


async def test_folders_of_a_pylock(write_files: WriteFiles) -> None:
    lock = "lock-version = '1.0'\ncreated-by = 'uv'\n[[packages]]\nname = 'lib'\n"
    folder = write_files(
        {
            "pylock.toml": lock + "directory = {path = 'lib'}\n",
            "lib/pyproject.toml": pyproject("lib"),
            "lib/lib.py": "",
        }
    )
    assert list((await requested(folder / "pylock.toml")).projects) == ["lib"]


async def test_code_is_no_part_of_the_fingerprint(write_files: WriteFiles) -> None:
    folder = write_files({"pyproject.toml": pyproject("a", "numpy"), "a.py": "", "r.txt": "-e .\n"})
    first = (await requested(folder / "r.txt")).fingerprint
    (folder / "a.py").write_text("x = 1\n")
    (folder / "pyproject.toml").write_text(pyproject("a", "numpy", more="[tool.ruff]\n"))
    assert (await requested(folder / "r.txt")).fingerprint == first
    (folder / "pyproject.toml").write_text(pyproject("a", "numpy>=2"))
    assert (await requested(folder / "r.txt")).fingerprint != first
    assert str(folder).encode() not in first


async def test_a_copy_of_a_workspace_has_the_same_fingerprint(
    write_files: WriteFiles, tmp_path: Path
) -> None:
    """Also through a link, as some machines have their homes."""
    wheel = "wheel-1.0-py3-none-any.whl"
    root = (
        "[tool.uv.workspace]\nmembers = ['packages/*']\n[[tool.uv.index]]\nurl = './wheels'\n"
        f"[tool.uv.sources]\nwheel = {{path = 'dist/{wheel}'}}\n"
    )
    poetry = (
        '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
        '[tool.poetry]\nname = "a"\nversion = "1.0"\n[tool.poetry.dependencies]\nwheel = "*"\n'
        "other = {path = '../../dist/other-1.0-py3-none-any.whl'}\n"
    )
    folder = write_files(
        {
            f"dist/{wheel}": "",
            "pyproject.toml": pyproject("root", more=root),
            "packages/a/pyproject.toml": poetry,
            "packages/a/a.py": "",
        }
    )

    async def fingerprint(folder: Path) -> bytes:
        return (await requested(folder / "packages/a/pyproject.toml")).fingerprint

    first = await fingerprint(folder)
    copy = tmp_path / "elsewhere/deeper/project"
    shutil.copytree(folder, copy)
    (tmp_path / "link").symlink_to(copy)
    assert await fingerprint(copy) == await fingerprint(tmp_path / "link") == first
    (folder / "pyproject.toml").write_text(pyproject("root", more=root.replace("./wheels", "./others")))
    assert await fingerprint(folder) != first


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("git+https://example.com/x.git", "asks for sources: git+https"),
        ("-e git+ssh://git@example.com/x.git@v1#egg=x", "asks for sources: -e git"),
        ("x @ git+https://example.com/x.git", "asks for sources"),
        ("https://example.com/x-1.0.tar.gz", "asks for sources"),
        ("./x-1.0.tar.gz", "asks for sources"),
        ("x @ https://example.com/archive/main.zip", "asks for sources"),
        ("--no-binary x", "asks for a build of x"),
        ("--no-binary=:all:", "asks for a build of :all:"),
        ("-r https://example.com/r.txt", "includes https://example.com/r.txt"),
    ],
)
async def test_sources_are_refused_by_their_line(line: str, words: str, write_files: WriteFiles) -> None:
    folder = write_files({"r.txt": "-r more.txt\n", "more.txt": f"numpy\n{line}\n"})
    with pytest.raises(errors.BuildError) as caught:
        await requested(folder / "r.txt")
    assert words in caught.value.message and "more.txt" in caught.value.message


async def test_sources_of_a_projects_own_are_refused(write_files: WriteFiles) -> None:
    git = "[tool.uv.sources]\nx = {git = 'https://example.com/x'}\n"
    folder = write_files({"pyproject.toml": pyproject("a", "x", more=git), "a.py": ""})
    with pytest.raises(errors.BuildError, match="x from https"):
        await requested(folder / "pyproject.toml")
    (folder / "pyproject.toml").write_text(pyproject("a", "x @ git+https://example.com/x"))
    with pytest.raises(errors.BuildError, match="asks for sources"):
        await requested(folder / "pyproject.toml")


@pytest.mark.parametrize(
    ("line", "words"), [("-e ./nowhere", "nowhere has no pyproject.toml"), ("./empty", "empty has no")]
)
async def test_a_folder_that_is_no_project(line: str, words: str, write_files: WriteFiles) -> None:
    folder = write_files({"r.txt": f"{line}\n", "empty/x.txt": ""})
    with pytest.raises(errors.UsageError) as caught:
        await requested(folder / "r.txt")
    assert words in caught.value.message


@pytest.mark.parametrize("builds", [("x",), (":all:",)])
@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("-e git+https://example.com/x.git@v1#egg=x", "x @ git+https://example.com/x.git@v1#egg=x\n"),
        (
            "X @ https://example.com/x-1.0.tar.gz ; python_version > '3'",
            "X @ https://example.com/x-1.0.tar.gz ; py",
        ),
        ("--no-binary x", "--no-binary x\n"),
    ],
)
async def test_sources_that_may_be_built_are_uvs_to_find(
    line: str, left: str, builds: tuple[str, ...], write_files: WriteFiles, tmp_path: Path
) -> None:
    folder = write_files({"r.txt": f"numpy\n{line}\n"})
    found = await read_requested(folder / "r.txt", _unread, {}, builds)
    assert left in inputs(found, tmp_path) and found.builds == builds


async def test_sources_without_a_name_are_built_with_all_others(write_files: WriteFiles) -> None:
    folder = write_files({"r.txt": "git+https://example.com/x.git\n"})
    with pytest.raises(errors.BuildError) as caught:
        await read_requested(folder / "r.txt", _unread, {}, ("x",))
    assert "--build-sources NAME: `NAME @ git+https://example.com/x.git`" in caught.value.remedy
    await read_requested(folder / "r.txt", _unread, {}, (":all:",))


async def _unread(folder: Path) -> Project:
    raise AssertionError(folder)


async def test_a_conda_environment(write_files: WriteFiles, tmp_path: Path) -> None:
    folder = write_files(
        {
            "environment.yml": "dependencies: [python>=3.10, numpy=1.26, ffmpeg, "
            "{pip: [-e ., wandb, -r more.txt]}]\n",
            "more.txt": "scipy\n",
            "pyproject.toml": pyproject("my-app", "tqdm"),
            "my_app.py": "",
        }
    )
    found = await requested(folder / "environment.yml")
    text = inputs(found, tmp_path)
    assert "numpy==1.26.*\n" in text and "wandb\n" in text and "-more.txt\n" in text
    assert list(found.projects) == ["my-app"] and found.requires_python == ">=3.10"
    assert "not from conda's channels" in found.notices[0] and "ffmpeg" in found.notices[1]


@pytest.mark.parametrize(
    "text",
    [
        "[tool.uv.sources]\nnumpy = 'x'\n",
        "[tool.uv.workspace]\nmembers = ['']\n[tool.uv.sources]\nnumpy = {workspace = true}\n",
        "[tool.uv.workspace]\nmembers = ['/x']\n[tool.uv.sources]\nnumpy = {workspace = true}\n",
        "[tool.uv.sources]\nnumpy = {workspace = true}\n",
        "[tool.uv]\nsources = 3\n",
        "[tool.uv.sources]\nnumpy = {path = 3}\n",
    ],
)
async def test_sources_that_are_none(text: str, write_files: WriteFiles) -> None:
    folder = write_files({"pyproject.toml": pyproject("a", "numpy", more=text), "a.py": ""})
    with pytest.raises(errors.UsageError, match=r"pyproject\.toml"):
        await requested(folder / "pyproject.toml")


async def test_locks_of_others_are_refused_with_a_way(write_files: WriteFiles) -> None:
    with pytest.raises(errors.UsageError, match=r"poetry\.lock isn't read") as caught:
        await requested(write_files({"poetry.lock": ""}) / "poetry.lock")
    assert "poetry export" in caught.value.remedy


@pytest.mark.parametrize(
    "line",
    ['-r "inc d/more.txt"', "-r inc d/more.txt", "-r ${DIR}/more.txt", "--requirement='inc d/more.txt'"],
)
async def test_included_files_are_named_as_uv_reads_them(
    line: str, write_files: WriteFiles, tmp_path: Path
) -> None:
    folder = write_files(
        {
            "r.txt": f"{line}\n",
            "inc d/more.txt": "-e ../lib\n-c '${LIMITS}.txt'\n",
            "inc d/limits.txt": "numpy<2\n",
            "lib/pyproject.toml": pyproject("lib", "a"),
            "lib/lib/__init__.py": "",
        }
    )
    found = await requested(folder / "r.txt", DIR="inc d", LIMITS="limits")
    assert list(found.projects) == ["lib"]
    inputs(found, tmp_path)
    (more,) = (tmp_path / "inputs").rglob("*-more.txt")
    assert more.read_text() == f"\n-c {folder}/inc d/limits.txt\n"


async def test_a_quoted_address_is_not_included(write_files: WriteFiles) -> None:
    folder = write_files({"r.txt": '-r "https://x.example/more.txt"\n'})
    with pytest.raises(errors.BuildError, match=r"includes https://x\.example/more\.txt"):
        await requested(folder / "r.txt")
