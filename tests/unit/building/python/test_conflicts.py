from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.python.conflicts import InImage, replaced
from gpuyard.building.python.platform_tags import environment
from gpuyard.building.python.wheels import Wheel
from gpuyard.images.oci import Platform
from tests.unit.building.python.conftest import use_environ
from tests.unit.images.conftest import MakeWheel, Workshop, debian_files

VARIABLES = environment(Platform("linux", "amd64"), 11)


def wheel(name: str, version: str) -> Wheel:
    return Wheel(f"{name}-{version}-py3-none-any.whl", "a" * 64)


def test_what_comes_in_the_place_of_the_base_s() -> None:
    base = {"numpy": "1.24.2", "pyyaml": "6.0", "six": "1.16.0"}
    wheels = [wheel("numpy", "2.0.0"), wheel("PyYAML", "6.0.0"), wheel("demo", "1")]
    assert replaced(wheels, base) == ["numpy 2.0.0 (the base has 1.24.2)"]


def image(
    wheels: dict[str, str], base: dict[str, str], requires: dict[str, list[str]] | None = None
) -> InImage:
    return InImage(wheels, base, requires or {}, VARIABLES)


TORCH = "demo 1.0 requires torch, and the base's torch 1.13 requires inner"


@pytest.mark.parametrize(
    ("requires", "said"),
    [
        ("numpy>=2", "demo 1.0 requires numpy>=2, and the base brings 1.24.2"),
        ("NumPy (>=2)", "demo 1.0 requires NumPy>=2, and the base brings 1.24.2"),
        ("numpy>=1.20", ""),
        ("numpy", ""),
        ("numpy>=2 ; sys_platform == 'win32'", ""),
        ("numpy>=2 ; extra == 'gpu'", ""),
        ("numpy>=2 ; python_version < '3.12'", "demo 1.0 requires numpy>=2, and the base brings 1.24.2"),
        ("inner>=2", "demo 1.0 requires inner>=2, and a wheel brings 1.0"),
        ("odd>=2", ""),
        ("scipy>=2", "demo 1.0 requires scipy>=2, and neither the base nor a wheel brings it"),
        ("not a requirement!", ""),
        ("torch", f"{TORCH}>2, and a wheel brings 1.0"),
        ("torch[jit]", f"{TORCH}>2, and a wheel brings 1.0; {TORCH}>3, and a wheel brings 1.0"),
    ],
)  # fmt: skip
def test_what_a_wheel_wants_otherwise(make_wheel: MakeWheel, requires: str, said: str) -> None:
    path = make_wheel("demo", requires=(requires,))
    base = {"numpy": "1.24.2", "torch": "1.13", "odd": "not.a.version!"}
    # What the base alone falls short of is as its maker left it.
    of_torch = ["numpy>5", "nowhere", "inner>2", "inner>3 ; extra == 'jit'"]
    made = image({"demo": "1.0", "inner": "1.0"}, base, {"torch": of_torch})
    found = list(made.unmet({wheel("demo", "1.0"): path}, missing=True))
    assert "; ".join(text for _, text in found) == said
    elsewhere = [text for name, text in found if name in base]
    assert [text for _, text in made.unmet({wheel("demo", "1.0"): path}, missing=False)] == elsewhere


def test_a_file_that_is_no_wheel(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    files = {wheel("demo", "1.0"): tmp_path / "x"}
    assert list(image({"demo": "1.0"}, {"numpy": "1"}).unmet(files, missing=True)) == []


OLD_NUMPY = {
    "usr/lib/python3/dist-packages/numpy-1.24.2.dist-info/METADATA": "Name: numpy\nVersion: 1.24.2\n"
}


async def test_what_the_base_has_too_old_is_installed(workshop: Workshop, make_wheel: MakeWheel) -> None:
    await workshop.make_base(debian_files() | OLD_NUMPY)
    make_wheel("demo", requires=("numpy>=2", "PyYAML>=5"))
    make_wheel("numpy", "2.0.0")
    await workshop.build(requirements=workshop.require("demo"))
    lock = (workshop.app / "gpuyard.lock").read_text()
    assert "numpy-2.0.0" in lock and "yaml" not in lock.lower()
    (said,) = (text for text in workshop.heard.said if "in the place of the base's" in text)
    assert said.endswith(": numpy 2.0.0 (the base has 1.24.2)")


async def test_what_the_base_has_too_old_and_nobody_newer(workshop: Workshop, make_wheel: MakeWheel) -> None:
    await workshop.make_base(debian_files() | OLD_NUMPY)
    make_wheel("demo", requires=("numpy>=2",))
    make_wheel("numpy", "1.26")
    with pytest.raises(errors.ResolveError, match=r"the base brings numpy 1\.24\.2\)(?s:.*)numpy>=2"):
        await workshop.build(requirements=workshop.require("demo"))


async def test_what_the_base_s_own_packages_require_counts(workshop: Workshop, make_wheel: MakeWheel) -> None:
    """A package of the base that is relied on, and doesn't get what it requires there."""
    heavy = "usr/lib/python3/dist-packages/heavy-3.0.dist-info/METADATA"
    metadata = "Name: heavy\nVersion: 3.0\nRequires-Dist: numpy>=2\nRequires-Dist: fast; extra == 'speed'\n"
    await workshop.make_base(debian_files() | OLD_NUMPY | {heavy: metadata})
    make_wheel("numpy", "2.0.0")
    make_wheel("fast")
    make_wheel("heavy", "4.0")
    await workshop.build(requirements=workshop.require("heavy"))
    lock = (workshop.app / "gpuyard.lock").read_text()
    assert "numpy-2.0.0" in lock and "heavy-4.0" not in lock and "fast" not in lock
    await workshop.build(requirements=workshop.require("heavy[speed]"))
    lock = (workshop.app / "gpuyard.lock").read_text()
    assert "fast-1.0" in lock and "heavy-4.0" not in lock


async def test_what_the_base_lacks_and_nobody_has_is_its_own_affair(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    heavy = "usr/lib/python3/dist-packages/heavy-3.0.dist-info/METADATA"
    await workshop.make_base(debian_files() | {heavy: "Name: heavy\nVersion: 3.0\nRequires-Dist: gone\n"})
    make_wheel("heavy", "4.0")
    make_wheel("demo", requires=("heavy",))
    await workshop.build(requirements=workshop.require("heavy", "demo"))
    lock = (workshop.app / "gpuyard.lock").read_text()
    assert 'from-base = { "heavy" = "3.0" }' in lock and "heavy-4.0" not in lock


@pytest.mark.parametrize(("requires", "said"), [("numpy>=2", "the base brings 1.24.2"), ("more", "neither")])
async def test_a_lock_that_doesn_t_fit_the_base_makes_no_image(
    workshop: Workshop, make_wheel: MakeWheel, requires: str, said: str
) -> None:
    await workshop.make_base(debian_files() | OLD_NUMPY)
    demo = make_wheel("demo", requires=(requires,))
    sha256 = hashlib.sha256(demo.read_bytes()).hexdigest()
    lock = workshop.folder / "pylock.toml"
    lock.write_text(
        'lock-version = "1.0"\ncreated-by = "a tool"\n[[packages]]\nname = "demo"\nversion = "1.0"\n'
        f'wheels = [{{ path = "wheels/{demo.name}", hashes = {{ sha256 = "{sha256}" }} }}]\n'
    )
    with pytest.raises(errors.BuildError, match=f"demo 1.0 requires {requires}, and {said}"):
        await workshop.build(requirements=lock)
    assert not (workshop.app / "gpuyard.lock").exists()
    # Who overrides a requirement knows why.
    name = requires.partition(">")[0]
    (workshop.app / "uv.toml").write_text(f"override-dependencies = [\"{name}; python_version < '3'\"]\n")
    await workshop.build(requirements=lock)


async def test_a_base_with_python_alone(workshop: Workshop, make_wheel: MakeWheel) -> None:
    files = {name: text for name, text in debian_files().items() if "PyYAML" not in name}
    await workshop.make_base(files)
    make_wheel("demo")
    await workshop.build(requirements=workshop.require("demo"))
    assert "demo-1.0" in (workshop.app / "gpuyard.lock").read_text()


async def test_what_uv_s_variables_say_counts(
    workshop: Workshop, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel("demo")
    make_wheel("demo", "2.0")
    (workshop.folder / "bounds.txt").write_text("demo<2\n")
    monkeypatch.chdir(workshop.folder)
    use_environ(workshop, monkeypatch, UV_CONSTRAINT="bounds.txt")
    await workshop.build(requirements=workshop.require("demo", "PyYAML"))
    lock = (workshop.app / "gpuyard.lock").read_text()
    assert "demo-1.0" in lock and 'from-base = { "pyyaml" = "6.0" }' in lock
