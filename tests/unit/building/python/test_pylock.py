from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
import uv

from gpuyard import errors
from gpuyard.building.python.platform_tags import tags
from gpuyard.building.python.pylock import is_lock, lock_files, locked_wheels
from gpuyard.images.contents.contents import ImageContents, Interpreter
from gpuyard.images.oci import Platform
from tests.unit.images.conftest import MakeWheel, Workshop

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
DEBIAN = ImageContents(Interpreter("/usr/bin/python3.11", 11), libc="glibc", libc_version=(2, 36))
A, B, C = ("a" * 64, "b" * 64, "c" * 64)
HEAD = 'lock-version = "1.0"\ncreated-by = "a tool"\n'


def package(name: str, *wheels: tuple[str, str], version: str = "1.0", more: str = "") -> str:
    rows = "".join(
        f'  {{ url = "https://files.example/{tag}/{name}-{version}-{tag}.whl", size = 7, '
        f'hashes = {{ sha256 = "{sha256}" }} }},\n'
        for tag, sha256 in wheels
    )
    return f'[[packages]]\nname = "{name}"\nversion = "{version}"\n{more}wheels = [\n{rows}]\n'


def write(tmp_path: Path, text: str, name: str = "pylock.toml") -> Path:
    path = tmp_path / name
    path.write_text(HEAD + text)
    return path


async def files(path: Path, platform: Platform = AMD64, contents: ImageContents = DEBIAN) -> list[str]:
    wheels, _ = await locked_wheels(path, platform, contents, {})
    return sorted(wheel.file for wheel in wheels)


@pytest.mark.parametrize(
    ("name", "known"),
    [("pylock.toml", True), ("pylock.gpu.toml", True), ("uv.lock", True), ("pyproject.toml", False),
     ("pylock.a.b.toml", False), ("requirements.txt", False), ("my-pylock.toml", False)],
)  # fmt: skip
def test_a_lock_is_known_by_its_name(name: str, known: bool) -> None:
    assert is_lock(Path("/x") / name) is known


def test_what_a_lock_is_made_of() -> None:
    assert lock_files(Path("a/pylock.toml")) == [Path("a/pylock.toml")]
    assert lock_files(Path("a/uv.lock")) == [Path("a/uv.lock"), Path("a/pyproject.toml")]


async def test_the_best_wheel_for_the_base_is_taken_with_its_hash(tmp_path: Path) -> None:
    wheels = (
        ("cp310-cp310-manylinux_2_17_x86_64", A),
        ("cp311-cp311-win_amd64", A),
        ("cp311-cp311-musllinux_1_2_x86_64", A),
        ("cp311-cp311-manylinux_2_39_x86_64", A),
        ("py3-none-any", A),
        ("cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", B),
        ("cp311-cp311-manylinux2014_aarch64", C),
    )
    path = write(tmp_path, package("fast", *wheels))
    ((wheel, source),) = (await locked_wheels(path, AMD64, DEBIAN, {}))[0].items()
    assert (wheel.name, wheel.version, wheel.sha256, wheel.size) == ("fast", "1.0", B, 7)
    assert source.startswith("https://files.example/cp311-cp311-manylinux_2_17_x86_64")
    assert await files(path, ARM64) == ["fast-1.0-cp311-cp311-manylinux2014_aarch64.whl"]
    alpine = ImageContents(Interpreter("/usr/bin/python3.11", 11), libc="musl", libc_version=(1, 1))
    assert await files(path, AMD64, alpine) == ["fast-1.0-cp311-cp311-musllinux_1_2_x86_64.whl"]
    old = ImageContents(Interpreter("/usr/bin/python3.9", 9), libc="glibc", libc_version=(2, 28))
    assert await files(path, AMD64, old) == ["fast-1.0-py3-none-any.whl"]


async def test_markers_are_those_of_the_base(tmp_path: Path) -> None:
    text = "".join(
        package(name, ("py3-none-any", A), more=f'marker = "{marker}"\n')
        for name, marker in {
            "linux": "sys_platform == 'linux'",
            "windows": "sys_platform == 'win32'",
            "arm": "platform_machine == 'aarch64'",
            "eleven": "python_full_version >= '3.11' and python_full_version < '3.12'",
            "grouped": "'dev' in dependency_groups",
            "extra": "'gpu' in extras",
        }.items()
    )
    path = write(tmp_path, text)
    assert await files(path) == ["eleven-1.0-py3-none-any.whl", "linux-1.0-py3-none-any.whl"]
    assert "arm-1.0-py3-none-any.whl" in await files(path, ARM64)


async def test_a_wheel_beside_the_lock(tmp_path: Path) -> None:
    wheel = f'{{ path = "wheels/a-1.0-py3-none-any.whl", hashes = {{ sha256 = "{A}" }} }}'
    path = write(tmp_path, f'[[packages]]\nname = "a"\nversion = "1.0"\nwheels = [{wheel}]\n')
    assert list((await locked_wheels(path, AMD64, DEBIAN, {}))[0].values()) == [
        str(tmp_path / "wheels/a-1.0-py3-none-any.whl")
    ]


async def test_a_wheel_by_its_address(tmp_path: Path) -> None:
    url = "https://x.example/a-1.0%2Bcu1-py3-none-any.whl#x"
    archive = f'{{ url = "{url}", hashes = {{ sha256 = "{A}" }} }}'
    path = write(tmp_path, f'[[packages]]\nname = "a"\narchive = {archive}\n')
    assert await files(path) == ["a-1.0+cu1-py3-none-any.whl"]


@pytest.mark.parametrize("bound", [">=3.11", ">=3.11.4", "==3.11.*"])
async def test_a_bound_on_python_is_held_against_the_minor_version(tmp_path: Path, bound: str) -> None:
    path = write(tmp_path, f'requires-python = "{bound}"\n' + package("a", ("py3-none-any", A)))
    assert len(await files(path)) == 1


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("packages = [", errors.UsageError, "can't be read as a lock"),
        ("[[packages]]\nversion = '1'\n", errors.UsageError, "name"),
        ("packages = []\nrequires-python = '>=3.12'\n", errors.ResolveError, "requires Python >=3.12"),
        ("packages = []\nenvironments = [\"sys_platform == 'win32'\"]\n", errors.ResolveError, "doesn't fit"),
        (package("a", ("cp312-cp312-win_amd64", A)), errors.ResolveError, "No wheel found"),
        (package("a", ("py3-none-any", "")).replace("sha256", "md5"), errors.BuildError, "no sha256"),
        ("[[packages]]\nname = 'a'\nvcs = {type = 'git', url = 'https://x', commit-id = '1'}\n",
         errors.BuildError, "no wheel of a"),
        ("[[packages]]\nname = 'a'\nversion = '2'\n[packages.sdist]\nurl = 'https://x/a-2.tar.gz'\n"
         f"hashes = {{sha256 = '{A}'}}\n", errors.BuildError, "no wheel of a 2"),
        (package("a", ("py3-none-any", A)) * 2, errors.ResolveError, "Multiple packages"),
    ],
)  # fmt: skip
async def test_bad_locks(tmp_path: Path, text: str, kind: type[Exception], words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(kind, match=words):
        await files(path)


async def test_a_lock_of_another_time(tmp_path: Path) -> None:
    path = tmp_path / "pylock.toml"
    path.write_text('lock-version = "2.0"\ncreated-by = "x"\npackages = []\n')
    with pytest.raises(errors.UsageError, match="version"):
        await files(path)


def test_tags_are_in_the_order_of_pip() -> None:
    names = [str(tag) for tag in tags(AMD64, DEBIAN)]
    assert names[0] == "cp311-cp311-manylinux_2_36_x86_64"
    assert names.index("cp311-abi3-manylinux_2_36_x86_64") < names.index("py3-none-any")
    assert "cp311-cp311-manylinux2014_x86_64" in names and "cp310-cp310-linux_x86_64" not in names


def uv_lock(folder: Path, *dependencies: str, wheels: Path) -> Path:
    """A project, locked by uv itself."""
    folder.mkdir()
    listed = ", ".join(f'"{name}"' for name in dependencies)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "project"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = [{listed}]\n'
        f'[dependency-groups]\ndev = ["tool"]\n[tool.uv]\nno-index = true\nfind-links = ["{wheels}"]\n'
    )
    done = subprocess.run([uv.find_uv_bin(), "lock", "--quiet"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "uv.lock"


async def test_uv_s_lock_is_taken_without_the_project_and_its_tools(
    tmp_path: Path, make_wheel: MakeWheel
) -> None:
    demo = make_wheel("demo", requires=("inner",))
    make_wheel("inner")
    make_wheel("tool")
    lock = uv_lock(tmp_path / "project", "demo", wheels=demo.parent)
    found, _ = await locked_wheels(
        lock, AMD64, DEBIAN, {"PATH": "", "HOME": str(tmp_path), "UV_NO_CACHE": "1"}
    )
    assert sorted(wheel.name for wheel in found) == ["demo", "inner"]
    (sha256,) = (wheel.sha256 for wheel in found if wheel.name == "demo")
    assert sha256 == hashlib.sha256(demo.read_bytes()).hexdigest()


async def test_uv_s_lock_without_its_project(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text("version = 1\n")
    with pytest.raises(errors.UsageError, match=r"no pyproject\.toml beside it"):
        await files(tmp_path / "uv.lock")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "a"\nversion = "1"\n')
    (tmp_path / "uv.lock").write_text("version = [")
    with pytest.raises(errors.UsageError, match=r"(?s)uv can't export .*TOML parse error"):
        await locked_wheels(tmp_path / "uv.lock", AMD64, DEBIAN, {"HOME": str(tmp_path)})


async def test_a_build_from_a_lock(workshop: Workshop, make_wheel: MakeWheel) -> None:
    """Also once the wheels are gone from the cache, and nothing is resolved anew."""
    demo = make_wheel("demo")
    sha256 = hashlib.sha256(demo.read_bytes()).hexdigest()
    # The base brings this one.
    listed = package("demo", ("py3-none-any", sha256))
    listed += package("pyyaml", ("py3-none-any", A), version="6.0")
    listed = listed.replace("https://files.example/py3-none-any/demo", f"{demo.parent.as_uri()}/demo")
    listed = listed.replace("size = 7", f"size = {demo.stat().st_size}")
    lock = write(workshop.folder, listed)
    first = await workshop.build(requirements=lock)
    assert [title for title, _ in first.platforms["linux/amd64"].layers] == ["demo 1.0", "application"]
    assert any("pyyaml 6.0 comes with the base" in text for text in workshop.heard.said)
    for wheel in workshop.cache.folder.glob("wheels/*"):
        wheel.unlink()
    again = await workshop.build(requirements=lock, target=f"oci:{workshop.folder / 'other'}:v1")
    assert again.digest == first.digest


async def test_another_file_than_the_lock_says_is_refused(workshop: Workshop, make_wheel: MakeWheel) -> None:
    demo = make_wheel("demo")
    listed = package("demo", ("py3-none-any", A))
    lock = write(
        workshop.folder,
        listed.replace("https://files.example/py3-none-any/demo", f"{demo.parent.as_uri()}/demo"),
    )
    with pytest.raises(errors.BuildError, match="is not the file that was locked"):
        await workshop.build(requirements=lock)


async def test_a_path_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    listed = package("demo", ("py3-none-any", A)).replace(
        "url = ", 'name = "demo-1.0-py3-none-any.whl", path = '
    )
    listed = listed.replace("https://files.example", "a\\u0000")
    with pytest.raises(errors.UsageError, match=r"the path of demo 1\.0 has a byte 0 in it"):
        await files(write(tmp_path, listed))
