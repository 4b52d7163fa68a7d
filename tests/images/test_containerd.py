"""Images that we built, read back by containerd: what most clusters' nodes pull with."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.images.conftest import Site
from tests.images.test_images import offer
from tests.registry.conftest import serving_on
from tests.unit.images.conftest import MakeWheel, make_wheel

__all__ = ["make_wheel"]


@dataclass(frozen=True)
class Containerd:
    """A containerd of the test's own."""

    folder: Path

    def ctr(self, *words: str | Path) -> str:
        """What `ctr` prints."""
        argv = ["ctr", "--address", self.folder / "c.sock", "--namespace", "gpuyard-test", *words]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def complete(self, image: str) -> bool:
        """Whether all of it is there, and was unpacked."""
        (row,) = self.ctr("images", "check", f"name=={image}").splitlines()[1:]
        return " complete " in row and row.split()[-1] == "true"

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """The image's root file system."""
        root = Path(tempfile.mkdtemp(dir=self.folder))
        self.ctr("images", "mount", image, root)
        try:
            yield root
        finally:
            self.ctr("images", "unmount", root)


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    """containerd with everything in a folder that goes with it; sockets need a short path."""
    if not (shutil.which("containerd") and shutil.which("ctr")) or os.getuid() != 0:
        pytest.skip("needs containerd and root: tools/install-system-packages images")
    folder = Path(tempfile.mkdtemp(prefix="gpuyard-ctr-", dir="/tmp"))
    (folder / "config.toml").write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{folder}/c.sock"\n'
    )
    try:
        with serving_on(
            ["containerd", "--config", str(folder / "config.toml")], folder / "c.sock", folder / "log"
        ):
            yield Containerd(folder)
    finally:
        shutil.rmtree(folder)


def see(root: Path) -> tuple[str, str]:
    """The application, and what the wheels left."""
    site = root / "opt/gpuyard/venv/lib/python3.11/site-packages"
    return (root / "workspace/train.py").read_text(), (site / "demo/__init__.py").read_text()


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_containerd_pulls_and_unpacks_it(
    site: Site, containerd: Containerd, app: Path, tmp_path: Path, make_wheel: MakeWheel, compression: str
) -> None:
    make_wheel("demo")
    offer(tmp_path, app)
    (app / "requirements.txt").write_text("demo\n")
    image = f"{site.registry}/me/containerd-{compression}:v1"
    words = ("--requirements", "requirements.txt", "-t", image, "--compression", compression, "-o", "json")
    built = site.ok("build", "--base", site.base, *words, cwd=app).json
    containerd.ctr("images", "pull", "--plain-http", image)
    assert containerd.complete(image)
    (row,) = containerd.ctr("images", "list", f"name=={image}").splitlines()[1:]
    assert built["digest"] in row
    with containerd.mounted(image) as root:
        assert see(root) == ((app / "train.py").read_text(), "x = 1\n")


def test_containerd_imports_an_archive(site: Site, containerd: Containerd, app: Path, tmp_path: Path) -> None:
    archive = tmp_path / "train.tar"
    site.ok("build", "--base", site.base, "-t", f"oci-archive:{archive}:v1", cwd=app)
    name = "gpuyard.test/train"
    containerd.ctr("images", "import", "--base-name", name, archive)
    assert containerd.complete(f"{name}:v1")
    with containerd.mounted(f"{name}:v1") as root:
        assert (root / "workspace/train.py").read_text() == (app / "train.py").read_text()
        assert os.readlink(root / "opt/gpuyard/venv/bin/python") == "/usr/bin/python3.11"
