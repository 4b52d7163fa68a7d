"""What a user ships in the end: OpenCV with its packages, a console script of one's own, and weights."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuyard.local.runtime.podman.host import Podman
from tests.containers.conftest import podman
from tests.e2e.conftest import Yard, shared_yard, yard
from tests.images.conftest import Site, debian_tar, site
from tests.waiting import until

__all__ = ["debian_tar", "podman", "shared_yard", "site", "yard"]

pytestmark = pytest.mark.slow

_WEIGHTS_BYTES = 200_000_000
_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "Sees-Well"
version = "1.2"
dependencies = ["opencv-python==4.10.0.84"]
[project.scripts]
sees = "sees_well:main"
"""
_CODE = """\
import importlib.metadata
import os

import cv2

def main():
    size = os.path.getsize("weights/model.bin")
    print("first", cv2.__version__, importlib.metadata.version("sees-well"), size)
"""
_SPEC = """\
run: sees
resources: {{gpus: 1}}
image:
  base: {base}
  repository: {image}
  requirements: pyproject.toml
  system_packages: [libgl1, libglib2.0-0]
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The folder."""
    folder = tmp_path / "app"
    (folder / "src/sees_well").mkdir(parents=True)
    (folder / "src/sees_well/__init__.py").write_text(_CODE)
    (folder / "pyproject.toml").write_text(_PYPROJECT)
    (folder / "weights").mkdir()
    (folder / "weights/model.bin").write_bytes(random.Random(0).randbytes(_WEIGHTS_BYTES))
    return folder


@pytest.fixture
def image(site: Site, podman: Podman) -> Iterator[str]:
    """Its name; podman has it no longer at the end."""
    name = f"{site.registry}/me/sees:v1"
    yield name
    known = subprocess.check_output(
        ["podman", "images", "--quiet", "--no-trunc", f"{site.registry}/me/sees"], text=True
    ).split()
    subprocess.run(["podman", "rmi", "--force", "--ignore", name, *known], capture_output=True, check=True)


def layers(built: dict[str, Any]) -> dict[str, str]:
    """Digest by title of those that the build added."""
    return {layer["title"]: layer["digest"] for layer in built["platforms"]["linux/amd64"]["layers"]}


def run(yard: Yard, name: str, built: dict[str, Any]) -> str:
    """What the console script prints in a run with a GPU."""
    yard.ok("run", "-d", "-n", name, "--image", built["reference"], "--gpus", "1", "--", "sees")
    ended = ("succeeded", "failed")
    until(lambda: str(yard.state(name)["state"]), f"{name} ends", lambda state: state in ended, timeout_s=300)
    return yard.ok("logs", name)


def test_a_change_of_one_line_pushes_the_applications_layer_alone(
    site: Site, yard: Yard, app: Path, image: str
) -> None:
    (app / "gpuyard.yaml").write_text(_SPEC.format(base=site.base, image=image))

    def build() -> tuple[dict[str, Any], dict[str, Path]]:
        """What was built, and the file of each blob that the registry hadn't before."""
        before = set(site.folder.glob("data/docker/registry/v2/blobs/sha256/*/*/data"))
        built: dict[str, Any] = site.ok("build", "-f", "gpuyard.yaml", "-o", "json", cwd=app).json
        now = set(site.folder.glob("data/docker/registry/v2/blobs/sha256/*/*/data"))
        return built, {f"sha256:{path.parent.name}": path for path in now - before}

    first, pushed = build()
    assert {"opencv-python 4.10.0.84", "weights/model.bin", "application"} < layers(first).keys()
    assert set(layers(first).values()) <= pushed.keys()
    (sbom,) = (file for file in pushed.values() if b'"bomFormat"' in file.read_bytes()[:1000])
    listed = {(each["name"], each["version"]) for each in json.loads(sbom.read_bytes())["components"]}
    assert {("sees-well", "1.2"), ("opencv-python", "4.10.0.84")} < listed
    assert "libgl1" in {name for name, _ in listed}
    size = f"4.10.0 1.2 {_WEIGHTS_BYTES}\n"
    assert run(yard, "one", first) == f"first {size}"

    code = app / "src/sees_well/__init__.py"
    code.write_text(_CODE.replace('"first"', '"second"'))
    second, pushed = build()
    changed = {title for title, digest in layers(second).items() if layers(first)[title] != digest}
    assert changed == {"application"}
    assert pushed.keys() & set(layers(second).values()) == {layers(second)["application"]}
    # Beside it its config, manifest and SBOM, which are text.
    assert sum(path.stat().st_size for path in pushed.values()) < 1_000_000
    assert run(yard, "two", second) == f"second {size}"
