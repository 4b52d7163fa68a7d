from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.project.project import Project, read_project
from tests.unit.building.project.conftest import BuildWheel, WriteFiles, facts, wheel_facts


def system(backend: str, *requires: str) -> str:
    needs = ", ".join(f'"{need}"' for need in requires)
    return f'[build-system]\nrequires = [{needs}]\nbuild-backend = "{backend}"\n'


SETUPTOOLS = system("setuptools.build_meta", "setuptools>=61", "wheel")
HATCHLING = system("hatchling.build", "hatchling")
FLIT = system("flit_core.buildapi", "flit_core>=3")
PDM = system("pdm.backend", "pdm-backend")
POETRY = system("poetry.core.masonry.api", "poetry-core")
UV = system("uv_build", "uv_build>=0.5,<99")
PROJECT = """\
[project]
name = "my-app"
version = "1.0"
description = "Trains."
requires-python = ">=3.10"
dependencies = ["numpy>=1.20,<3", "pyyaml; sys_platform == 'linux'"]
[project.optional-dependencies]
gpu = ["torch>=2", "triton; platform_machine == 'x86_64'"]
[project.scripts]
my-train = "my_app.train:main"
[project.entry-points."my_app.models"]
small = "my_app.models:Small"
"""
DYNAMIC = PROJECT.replace('version = "1.0"', 'dynamic = ["version"]')
SRC = {
    "README.md": "",
    "src/my_app/__init__.py": '"""Trains."""\n__version__ = "1.0"\n',
    "src/my_app/train.py": "def main(): pass\n",
    "src/my_app/inner/__init__.py": "",
    "src/my_app/inner/deep.py": "",
    "src/my_app/py.typed": "",
    "tests/test_it.py": "",
}
FLAT = {name.removeprefix("src/"): text for name, text in SRC.items()}

CASES = {
    "setuptools, src": (SETUPTOOLS + PROJECT, SRC),
    "setuptools, flat": (SETUPTOOLS + PROJECT, FLAT),
    "setuptools, a trivial setup.py": (
        SETUPTOOLS + PROJECT,
        {**SRC, "setup.py": "from setuptools import setup\n\nif __name__ == '__main__':\n    setup()\n"},
    ),
    "setuptools, one module": (
        SETUPTOOLS + PROJECT,
        {"my_app.py": "", "setup.py": "import setuptools\nsetuptools.setup()"},
    ),
    "setuptools, find": (
        SETUPTOOLS
        + PROJECT
        + '[tool.setuptools.packages.find]\nwhere = ["src", "lib"]\ninclude = ["my_*"]\n',
        {**SRC, "lib/my_lib/__init__.py": "", "src/other/__init__.py": ""},
    ),
    "setuptools, find with what is left out": (
        SETUPTOOLS
        + PROJECT
        + '[tool.setuptools.packages.find]\nexclude = ["tests*", "docs*"]\n'
        + "namespaces = false\n",
        {**FLAT, "docs/conf.py": "", "scripts/__init__.py": ""},
    ),
    "setuptools, packages elsewhere": (
        SETUPTOOLS
        + PROJECT
        + '[tool.setuptools]\npackages = ["my_app", "my_app.inner"]\npackage-dir = {"my_app" = "code"}\n',
        {"code/__init__.py": "", "code/train.py": "", "code/inner/__init__.py": ""},
    ),
    "setuptools, modules by name": (
        SETUPTOOLS + PROJECT + '[tool.setuptools]\npy-modules = ["train", "eval_"]\n',
        {"train.py": "", "eval_.py": "", "other.py": ""},
    ),
    "setuptools, a namespace": (
        SETUPTOOLS + PROJECT,
        {"src/org/my_app/__init__.py": "", "src/org/my_app/a.py": ""},
    ),
    "setuptools, version of an attribute": (
        SETUPTOOLS + DYNAMIC + '[tool.setuptools.dynamic]\nversion = {attr = "my_app.__version__"}\n',
        SRC,
    ),
    "setuptools, version and dependencies of files": (
        SETUPTOOLS
        + PROJECT.replace('version = "1.0"', 'dynamic = ["version", "dependencies"]').replace(
            'dependencies = ["numpy>=1.20,<3", "pyyaml; sys_platform == \'linux\'"]\n', ""
        )
        + '[tool.setuptools.dynamic]\nversion = {file = "VERSION"}\ndependencies = {file = ["needs.txt"]}\n',
        {**SRC, "VERSION": "2.1rc1\n", "needs.txt": "# these\nnumpy>=1\n\nscipy # and this\n"},
    ),
    "setuptools, setup.cfg": (
        "",
        {
            **SRC,
            "setup.cfg": "[metadata]\nname = my-app\nversion = attr: my_app.__version__\n"
            "[options]\npackage_dir =\n    = src\npackages = find:\n"
            "install_requires =\n    numpy>=1,<3\n    pyyaml\n"
            "python_requires = >=3.9\n[options.packages.find]\nwhere = src\n"
            "[options.extras_require]\ngpu = torch\n"
            "[options.entry_points]\nconsole_scripts =\n    my-train = my_app.train:main\n",
            "setup.py": "from setuptools import setup\nsetup()\n",
        },
    ),
    "setuptools, setup.py": (
        "",
        {
            **SRC,
            "setup.py": """\
from pathlib import Path
from setuptools import find_packages, setup

REQUIRES = ["numpy>=1,<3", "pyyaml; sys_platform == 'linux'"]
setup(
    name="my-app",
    version="1.2",
    long_description=Path("README.md").read_text(),
    packages=find_packages("src", exclude=["tests"]),
    package_dir={"": "src"},
    install_requires=REQUIRES,
    extras_require={"gpu": ["torch>=2"]},
    entry_points={"console_scripts": ["my-train = my_app.train:main"]},
    python_requires=">=3.9",
)
""",
        },
    ),
    "setuptools, setup.py of modules": (
        "",
        {
            "train.py": "",
            "setup.py": "import setuptools\nsetuptools.setup(name='a', version='1', py_modules=['train'])\n",
        },
    ),
    "hatchling, src": (HATCHLING + PROJECT, SRC),
    "hatchling, flat": (HATCHLING + PROJECT, FLAT),
    "hatchling, packages": (
        HATCHLING + PROJECT + '[tool.hatch.build.targets.wheel]\npackages = ["src/my_app", "lib/more"]\n',
        {**SRC, "lib/more/__init__.py": ""},
    ),
    "hatchling, only-include and sources": (
        HATCHLING
        + PROJECT
        + '[tool.hatch.build.targets.wheel]\nonly-include = ["src/my_app"]\nsources = ["src"]\n',
        SRC,
    ),
    "hatchling, force-include": (
        HATCHLING + PROJECT + '[tool.hatch.build.targets.wheel.force-include]\n"extra" = "my_app/extra"\n',
        {**SRC, "extra/__init__.py": ""},
    ),
    "hatchling, version of a file": (
        HATCHLING + DYNAMIC + '[tool.hatch.version]\npath = "src/my_app/__init__.py"\n',
        SRC,
    ),
    "hatchling, version of a pattern": (
        HATCHLING
        + DYNAMIC
        + "[tool.hatch.version]\npath = \"VERSION\"\npattern = 'is (?P<version>[0-9.]+)'\n",
        {**SRC, "VERSION": "it is 3.2"},
    ),
    "flit, src": (FLIT + PROJECT, SRC),
    "flit, version of the module": (FLIT + DYNAMIC, FLAT),
    "flit, a module of another name": (
        FLIT + PROJECT + '[tool.flit.module]\nname = "train"\n',
        {"train.py": '"""Trains."""\n'},
    ),
    "pdm, src": (PDM + PROJECT, SRC),
    "pdm, flat": (PDM + PROJECT, FLAT),
    "pdm, version of a file": (
        PDM + DYNAMIC + '[tool.pdm.version]\nsource = "file"\npath = "src/my_app/__init__.py"\n',
        SRC,
    ),
    "poetry, [project]": (POETRY + PROJECT, SRC),
    "poetry, packages": (
        POETRY
        + PROJECT
        + '[tool.poetry]\npackages = [{include = "my_app", from = "src"}, '
        + '{include = "more"}]\n',
        {**SRC, "more/__init__.py": ""},
    ),
    "poetry, before [project]": (
        POETRY
        + """[tool.poetry]
name = "my-app"
version = "1.0"
description = "Trains."
authors = ["Me <me@example.com>"]
readme = "README.md"
[tool.poetry.dependencies]
python = "^3.10"
numpy = "^1.26.4"
scipy = "~1.11"
pyyaml = "*"
requests = {version = ">=2.20,<3.0", extras = ["socks"]}
small = "^0.2.3"
smaller = "^0.0.3"
zero = "^0"
exact = "1.2.3"
wild = "1.2.*"
marked = {version = "^2", markers = "sys_platform == 'linux'"}
bounded = {version = "^1.1", python = "<3.12"}
torch = {version = "^2.1", optional = true}
[tool.poetry.extras]
gpu = ["torch"]
[tool.poetry.group.dev.dependencies]
pytest = "*"
[tool.poetry.scripts]
my-train = "my_app.train:main"
[tool.poetry.plugins."my_app.models"]
small = "my_app.models:Small"
""",
        SRC,
    ),
    "uv, src": (UV + PROJECT, SRC),
    "uv, flat": (UV + PROJECT + '[tool.uv.build-backend]\nmodule-root = ""\n', FLAT),
    "uv, a namespace": (
        UV + PROJECT + '[tool.uv.build-backend]\nmodule-name = "org.my_app"\n',
        {"README.md": "", "src/org/my_app/__init__.py": ""},
    ),
}


def modules_of(project: Project) -> set[str]:
    found = set()
    for part in project.parts:
        if part.path.is_file():
            found.add(part.name)
        for path in part.path.rglob("*.py"):
            found.add(f"{part.name}/{path.relative_to(part.path)}")
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_project_is_what_its_own_backend_makes_of_it(
    case: str, write_files: WriteFiles, build_wheel: BuildWheel
) -> None:
    pyproject, files = CASES[case]
    folder = write_files({**files, **({"pyproject.toml": pyproject} if pyproject else {})})
    project = read_project(folder, {})
    metadata = project.metadata
    found = facts(modules_of(project), metadata.to_text(), metadata.entry_points_text())
    assert found == wheel_facts(build_wheel(folder))


SETUP = "from setuptools import setup\nsetup({})\n"
MARKER = "open('ran', 'w').close()\n"


@pytest.mark.parametrize(
    ("pyproject", "files", "why"),
    [
        (
            "",
            {"setup.py": MARKER + "from setuptools import setup\nsetup(name='x')\n"},
            "does more than call setup",
        ),
        ("", {"setup.py": "from setuptools import setup\nsetup(ext_modules=[])\n"}, "it hands ext_modules"),
        ("", {"setup.py": SETUP.format("version=open('v').read()")}, "it computes version"),
        (
            "",
            {"setup.py": "r = []\nn = r.append('x')\n" + SETUP.format("install_requires=r")},
            "computes install_requires",
        ),
        ("", {"setup.py": SETUP.format("install_requires=3")}, "install_requires isn't what"),
        ("", {"setup.py": SETUP.format("name='x'")}, "no name and version"),
        ("", {"setup.py": SETUP.format("**more")}, "it computes what it hands"),
        ("", {"setup.py": "def f():\n    setup(name='x')\n"}, "doesn't call setup() once"),
        ("", {"setup.py": SETUP.format("name='x'") + SETUP.format("name='y'")}, "doesn't call setup() once"),
        (
            "",
            {"setup.py": SETUP.format("name='a'"), "setup.cfg": "[options]\n"},
            "both its setup.py and its setup.cfg",
        ),
        (SETUPTOOLS + PROJECT, {**SRC, "setup.py": SETUP.format("name='a'")}, "more than its [project]"),
        (SETUPTOOLS + PROJECT + '[tool.setuptools.cmdclass]\nbuild = "x.y"\n', SRC, "cmdclass"),
        (
            SETUPTOOLS + PROJECT + '[[tool.setuptools.ext-modules]]\nname = "x"\nsources = []\n',
            SRC,
            "ext-modules",
        ),
        (SETUPTOOLS + PROJECT, {"one/__init__.py": "", "two/__init__.py": ""}, "several packages"),
        (SETUPTOOLS + DYNAMIC, SRC, "version is dynamic"),
        (SETUPTOOLS + DYNAMIC + '[tool.setuptools.dynamic]\nversion = {attr = "my_app.v"}\n', SRC, "version"),
        (system("setuptools.build_meta", "setuptools", "torch") + PROJECT, SRC, "requires torch"),
        (system("maturin", "maturin") + PROJECT, SRC, "build backend is maturin"),
        (system("scikit_build_core.build", "scikit-build-core") + PROJECT, SRC, "scikit_build_core"),
        (
            '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n' + PROJECT,
            SRC,
            "lies in",
        ),
        (HATCHLING + PROJECT + "[tool.hatch.build.hooks.custom]\n", SRC, "build hooks: custom"),
        (HATCHLING + PROJECT + "[tool.hatch.build.targets.wheel.hooks.cython]\n", SRC, "build hooks: cython"),
        (HATCHLING + PROJECT + "[tool.hatch.metadata.hooks.custom]\n", SRC, "metadata hooks"),
        (HATCHLING + PROJECT, {"other/__init__.py": ""}, "named after the project"),
        (POETRY + PROJECT + '[tool.poetry.build]\nscript = "build.py"\n', SRC, "build script"),
        (POETRY + PROJECT + '[tool.poetry]\nbuild = "build.py"\n', SRC, "build script"),
        (PDM + PROJECT, {**SRC, "pdm_build.py": MARKER}, "build hook"),
        (FLIT + DYNAMIC, {"my_app.py": "from x import __version__"}, "__version__"),
    ],
)
def test_what_only_a_build_can_tell_is_refused_and_not_run(
    pyproject: str, files: dict[str, str], why: str, write_files: WriteFiles
) -> None:
    folder = write_files({**files, **({"pyproject.toml": pyproject} if pyproject else {})})
    with pytest.raises(errors.BuildError) as caught:
        read_project(folder, {})
    assert why in caught.value.message and str(folder) in caught.value.message
    assert "--build-project" in caught.value.remedy
    assert not list(folder.rglob("ran"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[project", "can't read"),
        ("[project]\nname = 3\n", "project.name must be a text"),
        ('[project]\nname = "x y"\nversion = "1"\n', "names no project"),
        ('[project]\nname = "x"\nversion = "one"\n', "version"),
        ('[project]\nname = "x"\nversion = "1"\ndependencies = "numpy"\n', "must be a list"),
        ('[project]\nname = "x"\nversion = "1"\ndependencies = ["a b"]\n', "can't be read"),
        ("[tool]\nsetuptools = 1\n[project]\n", "must be a table"),
        (
            POETRY + PROJECT.replace('[project.scripts]\nmy-train = "my_app.train:main"', "scripts = 3"),
            "must be a",
        ),
        (POETRY + "[tool.poetry]\nname = 'a'\nversion = '1'\ndependencies = 3\n", "must be a table"),
    ],
)
def test_a_pyproject_that_is_wrong_is_named(text: str, message: str, write_files: WriteFiles) -> None:
    folder = write_files({"pyproject.toml": text, "x.py": ""})
    with pytest.raises(errors.UsageError, match=r"pyproject\.toml") as caught:
        read_project(folder, {})
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("pyproject", "files", "environ", "version"),
    [
        (
            system("setuptools.build_meta", "setuptools", "setuptools-scm[toml]") + DYNAMIC,
            {},
            {},
            "0+unknown",
        ),
        (
            system("setuptools.build_meta", "setuptools", "setuptools-scm") + DYNAMIC,
            {},
            {"SETUPTOOLS_SCM_PRETEND_VERSION_FOR_MY_APP": "4.2"},
            "4.2",
        ),
        (
            system("hatchling.build", "hatchling", "hatch-vcs")
            + DYNAMIC
            + '[tool.hatch.version]\nsource = "vcs"\n'
            + '[tool.hatch.build.hooks.vcs]\nversion-file = "src/my_app/_v.py"\n',
            {"src/my_app/_v.py": "__version__ = version = '7.1'\n"},
            {},
            "7.1",
        ),
    ],
)
def test_the_version_of_git_is_not_asked_of_git(
    pyproject: str, files: dict[str, str], environ: dict[str, str], version: str, write_files: WriteFiles
) -> None:
    folder = write_files({**SRC, **files, "pyproject.toml": pyproject})
    assert read_project(folder, environ).metadata.version == version


def test_a_version_file_that_a_build_would_write_must_be_there(write_files: WriteFiles) -> None:
    pyproject = system("setuptools.build_meta", "setuptools", "setuptools-scm") + DYNAMIC
    pyproject += '[tool.setuptools_scm]\nversion_file = "src/my_app/_version.py"\n'
    with pytest.raises(errors.BuildError, match=r"_version\.py, which isn't there"):
        read_project(write_files({**SRC, "pyproject.toml": pyproject}), {})


def test_a_folder_of_a_project_is_absolute(write_files: WriteFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_files({**SRC, "pyproject.toml": HATCHLING + PROJECT}).parent)
    assert read_project(Path("project"), {}).folder.is_absolute()
