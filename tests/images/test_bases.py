"""Bases as others make them: an image on each is built and run."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.images import bases
from tests.images.bases import BaseLayout
from tests.images.conftest import Containers, Site
from tests.unit.images.conftest import MakeWheel, make_wheel

__all__ = ["make_wheel"]


#: Without a program besides Python: some bases have none.
_SEE = """
import getpass, importlib, json, os, sys
def state(path):
    found = os.lstat(path)
    return [oct(found.st_mode & 0o7777), found.st_uid, found.st_gid]
def load(name):
    try:
        return importlib.import_module(name).__file__
    except ImportError:
        return ""
open("written", "w").close()
open(os.path.expanduser("~/written"), "w").close()
open("/tmp/written", "w").close()
print(json.dumps({
    "prefix": sys.base_prefix, "user": getpass.getuser(), "uid": os.getuid(), "cwd": os.getcwd(),
    "here": sorted(os.listdir(".")), "shell": os.path.exists("/bin/sh") and os.system("true") == 0,
    "links": {path: os.readlink(path) for path in ("/bin", "/lib", "/workspace", "/home", "/opt")
              if os.path.islink(path)},
    "modules": {name: load(name) for name in ("demo", "nvtorch", "condapkg", "yaml", "ssl")},
    "states": {path: state(path) for path in sys.argv[1:]},
}))
"""


@pytest.fixture(scope="module")
def layouts(debian_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A folder with Debian as an image in a layout; no registry."""
    made = Site("", tmp_path_factory.mktemp("bases"))
    made.ok("image", "import", debian_tar, "-t", f"oci:{made.folder}/images:debian")
    return made


@pytest.fixture
def shop(tmp_path: Path, make_wheel: MakeWheel, layouts: Site) -> Path:
    """A folder with an application that needs one wheel."""
    make_wheel("demo")
    app = tmp_path / "app"
    (app / "data").mkdir(parents=True)
    (app / "data" / "x.txt").write_text("shipped")
    (app / "see.py").write_text(_SEE)
    (app / "requirements.txt").write_text("demo\n")
    (app / "uv.toml").write_text(f'no-index = true\nfind-links = ["{tmp_path / "wheels"}"]\n')
    return app


def build(layouts: Site, app: Path, *more: BaseLayout, words: tuple[str, ...] = ()) -> str:
    """Builds on Debian with layers on top; gives the image's name."""
    base = f"oci:{layouts.folder}/images:debian"
    for number, layout in enumerate(more):
        name = f"oci:{layouts.folder}/images:base-{app.parent.name}-{number}"
        bases.stack(base, name, layout)
        base = name
    image = f"oci:{layouts.folder}/images:{app.parent.name}"
    layouts.ok("build", "--base", base, "--requirements", "requirements.txt", "-t", image, *words, cwd=app)
    return image


def see(containers: Containers, image: str, *paths: str) -> Any:
    return json.loads(containers.start(image, "python", "see.py", *paths).splitlines()[-1])


SITE = "/opt/gpuyard/venv/lib/python3.11/site-packages"


def test_debian_with_its_merged_usr_and_packages_managed_by_apt(
    layouts: Site, containers: Containers, shop: Path
) -> None:
    seen = see(containers, build(layouts, shop), "/tmp", "/home", "/usr", "/workspace", "/workspace/data")
    assert seen["links"] == {"/bin": "usr/bin", "/lib": "usr/lib"}
    assert seen["shell"]
    assert seen["modules"]["demo"].startswith(SITE)
    assert seen["modules"]["yaml"] == "/usr/lib/python3/dist-packages/yaml/__init__.py"
    assert (seen["user"], seen["uid"], seen["cwd"]) == ("gpuyard", 1000, "/workspace")
    assert seen["states"] == {
        "/tmp": ["0o1777", 0, 0],
        "/home": ["0o755", 0, 0],
        "/usr": ["0o755", 0, 0],
        "/workspace": ["0o755", 1000, 1000],
        "/workspace/data": ["0o755", 1000, 1000],
    }


def test_nvidias(layouts: Site, containers: Containers, shop: Path) -> None:
    image = build(layouts, shop, bases.ngc())
    seen = see(containers, image, "/workspace/tutorials", "/usr/local/cuda/compat/lib")
    assert seen["modules"]["nvtorch"] == "/usr/local/lib/python3.11/dist-packages/nvtorch/__init__.py"
    assert seen["modules"]["demo"].startswith(SITE)
    assert {"README.md", "tutorials", "see.py", "data"} <= set(seen["here"])
    assert seen["states"]["/workspace/tutorials"] == ["0o777", 0, 0]
    shown = layouts.ok("image", "show", image, "-o", "json").json
    assert shown["platforms"][0]["user"] == "1000:1000"


@pytest.mark.skipif(
    not Path(sys.base_prefix, "lib/python3.11/site-packages").is_dir(),
    reason="needs tests that run by a Python 3.11 that isn't Debian's",
)
def test_condas(layouts: Site, containers: Containers, shop: Path) -> None:
    seen = see(containers, build(layouts, shop, bases.conda()), "/opt/conda")
    assert seen["prefix"] == "/opt/conda"
    assert seen["modules"]["condapkg"] == "/opt/conda/lib/python3.11/site-packages/condapkg/__init__.py"
    assert seen["modules"]["demo"].startswith(SITE)
    assert seen["modules"]["yaml"] == "", "Debian's packages are not conda's"
    assert seen["states"]["/opt/conda"] == ["0o755", 0, 0]


def test_one_without_a_shell_whose_user_is_another(layouts: Site, containers: Containers, shop: Path) -> None:
    seen = see(containers, build(layouts, shop, bases.without_shell()), "/home/nonroot")
    assert not seen["shell"]
    assert (seen["user"], seen["uid"]) == ("gpuyard", 1000)
    assert seen["modules"]["demo"].startswith(SITE)
    assert seen["states"]["/home/nonroot"] == ["0o700", 65532, 65532]


def test_links_of_the_base_stay_and_are_followed(layouts: Site, containers: Containers, shop: Path) -> None:
    image = build(layouts, shop, bases.with_links(), bases.linked_system())
    seen = see(containers, image, "/data", "/data/ws", "/data/ws/data", "/var/home", "/var/home/gpuyard")
    assert seen["links"] == {
        "/bin": "usr/bin",
        "/lib": "usr/lib",
        "/workspace": "/data/ws",
        "/home": "var/home",
        "/opt": "var/opt",
    }
    assert {"theirs.txt", "see.py", "data", "written"} <= set(seen["here"])
    assert seen["modules"]["demo"].startswith(SITE)
    assert (seen["user"], seen["uid"]) == ("gpuyard", 1000)
    assert seen["states"] == {
        "/data": ["0o711", 33, 44],
        "/data/ws": ["0o2770", 1000, 1000],
        "/data/ws/data": ["0o755", 1000, 1000],
        "/var/home": ["0o555", 0, 0],
        "/var/home/gpuyard": ["0o755", 1000, 1000],
    }


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (bases.uvs(), ("the Python of the base is out of reach for user 1000", "UV_PYTHON_INSTALL_DIR")),
        (bases.pyenvs(), ("is a script, /opt/pyenv/shims/python3,", "ENV PATH=")),
    ],
    ids=["uv", "pyenv"],
)
def test_a_python_that_an_image_cannot_start(
    layouts: Site, shop: Path, layout: BaseLayout, words: tuple[str, ...]
) -> None:
    base = f"oci:{layouts.folder}/images:base-{shop.parent.name}"
    bases.stack(f"oci:{layouts.folder}/images:debian", base, layout)
    done = layouts.gpuyard("build", "--base", base, "-t", "oci:out:1", cwd=shop)
    assert done.code != 0
    assert all(each in done.err for each in words), done.err


def test_a_workdir_in_the_systems_folders(layouts: Site, shop: Path) -> None:
    base = f"oci:{layouts.folder}/images:debian"
    for workdir, words in (
        ("/bin", "the workdir /bin belongs to the system"),
        ("/usr/..//etc", "the workdir /etc belongs to the system"),
        ("/root/code", "the workdir /root/code is out of reach for user 1000"),
    ):
        done = layouts.gpuyard("build", "--base", base, "-t", "oci:out:1", "--workdir", workdir, cwd=shop)
        assert (done.code, words in done.err, "/workspace" in done.err) == (2, True, True), done.err
    assert not (shop / "gpuyard.lock").exists()
    shutil.rmtree(shop / "out", ignore_errors=True)
