"""Images: edits, first builds, large files, wheels, system packages; beside buildah with overlay and uv."""

from __future__ import annotations

import compileall
import contextlib
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

import gpuyard
from bench.row import Row, Unavailable
from bench.yard import GPUYARD, environ_for
from gpuyard.building.lock import read_lock
from gpuyard.building.python.wheels import wheel_path
from gpuyard.images.cache import Cache
from tests.waiting import until

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpuyard-test"
_TIMES = 11
_WHEELS = "numpy==1.26.4\nscipy==1.13.1\npandas==2.2.3\n"
_LARGE_BYTES = 500_000_000
_CHECKPOINT_BYTES = 1_500_000_000
_FIRST = ("numpy==1.26.4", "requests==2.32.5")
_FIRST_BYTES = 20_000_000
#: With what they need, 52 packages.
_SYSTEM_PACKAGES = ("libgl1", "libglib2.0-0", "libsndfile1", "libxext6", "libsm6")


@dataclass(frozen=True)
class _Site:
    """A registry with a Debian base, an application, and tools' own storage."""

    folder: Path
    registry: str

    @property
    def app(self) -> Path:
        return self.folder / "app"

    @property
    def base(self) -> str:
        return f"{self.registry}/base/debian:12"

    def run(self, *words: str | Path) -> float:
        """Seconds that a command takes."""
        storage = {"CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf")}
        environ = environ_for(self.folder / "home") | storage
        began = time.perf_counter()
        done = subprocess.run(words, cwd=self.app, env=environ, capture_output=True, text=True, check=False)
        took = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))} ended with {done.returncode}: {done.stderr}")
        return took

    def build(self, name: str, *words: str | Path) -> float:
        """Seconds of `gpuyard build`."""
        return self.run(GPUYARD, "build", "--base", self.base, "-t", f"{self.registry}/{name}", *words)

    def change_a_line(self) -> None:
        """As an editor would."""
        (self.app / "train.py").write_text(f"print({random.random()})\n")


def measure() -> list[Row]:
    """Medians of builds whose layers are pushed to a registry on this machine."""
    for program in ("docker-registry", "buildah", "mmdebstrap"):
        if shutil.which(program) is None:
            raise Unavailable(f"needs {program}: tools/install-system-packages images")
    # As installed: a checkout under PYTHONDONTWRITEBYTECODE would compile what it imports at each call.
    compileall.compile_dir(Path(gpuyard.__file__).parent, quiet=2)
    compileall.compile_dir(Path(httpx.__file__).parents[1], quiet=2)
    with _site() as site:
        return [
            *_changed_line(site),
            *_first_build(site),
            _beside_a_checkpoint(site),
            _system_packages(site),
            *_many_wheels(site),
            _large_wheel(site),
        ]


def _changed_line(site: _Site) -> list[Row]:
    ours, theirs, inner = [], [], []
    for turn in range(_TIMES):
        site.change_a_line()
        ours.append(site.build("me/line:v1"))
        theirs.append(_buildah(site))
        site.change_a_line()
        inner.append(_in_process(site))
        if turn == 0:
            for took in (ours, theirs, inner):
                took.clear()  # The first of each fills caches.
    command, peer = statistics.median(ours), statistics.median(theirs)
    return [
        Row("one line changed, pushed", command, "s", 0.20, "buildah with overlay, now", peer),
        Row("  times faster than buildah", peer / command, "×", 1.3, "buildah", 0, higher_is_better=True),
        Row("  the build itself", statistics.median(inner), "s", 0.10, "buildah with overlay, now", peer),
    ]


def _buildah(site: _Site) -> float:
    image = f"{site.registry}/peer/line:v1"
    name = f"bench-{random.getrandbits(32)}"
    script = (
        f"buildah from -q --tls-verify=false --isolation chroot --name {name} {site.base} && "
        f"buildah copy -q {name} train.py /workspace/train.py && "
        f"buildah commit -q {name} {image} && buildah push -q --tls-verify=false {image} docker://{image}"
    )
    took = site.run("sh", "-ec", script)
    site.run("buildah", "rm", name)
    return took


def _in_process(site: _Site) -> float:
    """Without the start of an interpreter: what `build` itself takes once everything is imported."""
    code = (
        "import asyncio, os, sys, time\n"
        "from pathlib import Path\n"
        "from gpuyard.building.options import BuildOptions\n"
        "from gpuyard.cli.building import build_image\n"
        "import gpuyard.images.registry.client\n"
        "began = time.perf_counter()\n"
        f"build_image(None, BuildOptions(base={site.base!r}, tags=({f'{site.registry}/me/line:v1'!r},)))\n"
        "Path(sys.argv[1]).write_text(str(time.perf_counter() - began))\n"
    )
    told = site.folder / "told"
    site.run(sys.executable, "-c", code, told)
    return float(told.read_text())


def _first_build(site: _Site) -> list[Row]:
    """A new repository, nothing packed before; wheels are on this machine, for both."""
    requirements = site.folder / "first.txt"
    requirements.write_text("".join(f"{line}\n" for line in _FIRST))
    data = site.app / "data"
    data.mkdir()
    for number in range(20):
        (data / f"{number}.bin").write_bytes(random.Random(number).randbytes(_FIRST_BYTES // 20))
    ours, theirs = [], []
    site.build("me/first:v0", "--requirements", requirements)
    wheels = _cached_wheels(site)
    for number in range(4):
        site.change_a_line()
        shutil.rmtree(site.folder / "home" / "cache" / "layers")
        (site.app / "gpuyard.lock").unlink()
        ours.append(site.build(f"me/first{number}:v1", "--requirements", requirements))
        theirs.append(_buildah_with_uv(site, f"peer/first{number}:v1", wheels))
    shutil.rmtree(data)
    (site.app / "gpuyard.lock").unlink()
    command, peer = statistics.median(ours), statistics.median(theirs)
    return [
        Row("first build, numpy, 20 MB", command, "s", 10, "buildah with uv, now", peer),
        Row("  times faster than buildah", peer / command, "×", 2.5, "buildah", 0, higher_is_better=True),
    ]


def _cached_wheels(site: _Site) -> Path:
    """The locked wheels under their own names."""
    folder = site.folder / "peer-wheels"
    folder.mkdir()
    lock = read_lock(site.app / "gpuyard.lock")
    assert lock
    for platform in lock.platforms.values():
        for wheel in platform.wheels:
            shutil.copy(wheel_path(Cache(site.folder / "home" / "cache"), wheel), folder / wheel.file)
    return folder


def _buildah_with_uv(site: _Site, image: str, wheels: Path) -> float:
    """As a Dockerfile with uv does it, its wheels in a cache that is mounted."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    name = f"bench-{random.getrandbits(32)}"
    install = (
        "/uv/uv venv -q --system-site-packages /opt/venv && /uv/uv pip install -q --offline --no-index "
        f"--find-links /wheels --python /opt/venv/bin/python {' '.join(_FIRST)}"
    )
    script = (
        f"buildah from -q --tls-verify=false --isolation chroot --name {name} {site.base} && "
        f"buildah run --isolation chroot -v {wheels}:/wheels:ro -v {Path(str(uv)).parent}:/uv:ro {name} "
        f"-- sh -c '{install}' && buildah copy -q {name} . /workspace && "
        f"buildah commit -q {name} {site.registry}/{image} && "
        f"buildah push -q --tls-verify=false {site.registry}/{image} docker://{site.registry}/{image}"
    )
    took = site.run("sh", "-ec", script)
    site.run("buildah", "rm", name)
    return took


def _beside_a_checkpoint(site: _Site) -> Row:
    noise = random.Random(0).randbytes(1 << 20)
    checkpoint = site.app / "model.pt"
    with checkpoint.open("wb") as file:
        for number in range(_CHECKPOINT_BYTES // len(noise)):
            file.write(noise[number:] + noise[:number])
    site.build("me/checkpoint:v1")
    took = []
    for _ in range(5):
        site.change_a_line()
        took.append(site.build("me/checkpoint:v1"))
    checkpoint.unlink()
    return Row("an edit beside 1.5 GB", statistics.median(took), "s", 1.0, "buildah", 0)


def _system_packages(site: _Site) -> Row:
    """The packages are on this machine, and locked; what is measured is the layer."""
    words = [word for name in _SYSTEM_PACKAGES for word in ("--system-package", name)]
    site.build("me/system:v0", *words)
    took = []
    for number in range(3):
        shutil.rmtree(site.folder / "home" / "cache" / "layers")
        took.append(site.build(f"me/system{number}:v1", *words))
    (site.app / "gpuyard.lock").unlink()
    return Row("52 system packages, push", statistics.median(took), "s", 3.0, "buildah", 0)


def _many_wheels(site: _Site) -> list[Row]:
    """218 MB of files. Downloads and byte code are kept by wheel, so they are measured apart."""
    requirements = site.folder / "many.txt"
    requirements.write_text(_WHEELS)
    first = site.build("me/wheels:v0", "--requirements", requirements)
    took = []
    for number in range(3):
        shutil.rmtree(site.folder / "home" / "cache" / "layers")
        took.append(site.build(f"me/wheels{number}:v1", "--requirements", requirements))
    shutil.rmtree(site.folder / "home" / "cache" / "layers")
    bare = site.build("me/bare:v1", "--requirements", requirements, "--no-byte-code")
    (site.app / "gpuyard.lock").unlink()
    return [
        Row("218 MB of wheels, push", statistics.median(took), "s", 4.0, "igzip of the layer alone", 1.5),
        Row("  without byte code", bare, "s", 4.0, "igzip of the layer alone", 1.5),
        Row("  with download, byte code", first, "s", 60.0, "buildah", 0),
    ]


def _large_wheel(site: _Site) -> Row:
    """Peak of one process; random bytes can't be compressed, so each buffer is full."""
    wheel = _make_wheel(site.folder / "large")
    (site.app / "uv.toml").write_text(f'no-index = true\nfind-links = ["{wheel.parent}"]\n')
    requirements = site.folder / "large.txt"
    requirements.write_text("large\n")
    told = site.folder / "peak"
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from gpuyard.building.options import BuildOptions\n"
        "from gpuyard.cli.building import build_image\n"
        f"flags = BuildOptions(base={site.base!r}, tags=({f'{site.registry}/me/large:v1'!r},),\n"
        f"    requirements=Path({str(requirements)!r}))\n"
        "build_image(None, flags)\n"
        "Path(sys.argv[1]).write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))\n"
    )
    site.run(sys.executable, "-c", code, told)
    return Row("peak memory, 500 MB wheel", int(told.read_text()) / 1e3, "MB", 200, "buildah", 0)


def _make_wheel(folder: Path) -> Path:
    folder.mkdir()
    wheel = folder / "large-1.0-py3-none-any.whl"
    noise = random.Random(0).randbytes(1 << 20)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("large/lib.so", "w", force_zip64=True) as file:
            for number in range(_LARGE_BYTES // len(noise)):
                file.write(noise[number:] + noise[:number])
        archive.writestr("large-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: large\nVersion: 1.0\n")
        archive.writestr("large-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("large-1.0.dist-info/RECORD", "")
    return wheel


@contextlib.contextmanager
def _site() -> Iterator[_Site]:
    folder = Path(tempfile.mkdtemp(prefix="gpuyard-bench-", dir="/tmp"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "registry.yml").write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n'
    )
    site = _Site(folder, f"127.0.0.1:{port}")
    site.app.mkdir()
    with (folder / "registry.log").open("wb") as log:
        server = subprocess.Popen(
            ["docker-registry", "serve", folder / "registry.yml"],
            stdout=log,
            stderr=log,
            env=os.environ | {"OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        _wait(port)
        site.run(GPUYARD, "image", "import", debian(), "-t", site.base)
        yield site
    finally:
        server.terminate()
        server.wait()
        subprocess.run(["umount", folder / "graph" / "overlay"], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(port: int) -> None:
    def listens() -> bool:
        with socket.create_connection(("127.0.0.1", port)):
            return True

    until(listens, "docker-registry listens", not_yet=OSError, timeout_s=10)


def debian() -> Path:
    """A Debian with Python, made once per machine; the tests use it too."""
    made = _CACHE / "debian-12-python.tar"
    if not made.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = made.with_suffix(".new.tar")
        words = [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            "--include=python3,python3-yaml,ca-certificates",
        ]
        subprocess.run([*words, "bookworm", unfinished], check=True)
        unfinished.rename(made)
    return made
