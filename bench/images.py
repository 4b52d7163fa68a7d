"""Images: edits, first builds, large files, wheels, system packages; beside buildah with overlay and uv."""

from __future__ import annotations

import asyncio
import compileall
import hashlib
import os
import random
import shutil
import statistics
import sys
import zipfile
from pathlib import Path

import httpx

import gpuyard
from bench.image_site import ImageSite, image_site
from bench.row import Row, Unavailable
from gpuyard.building.lock import read_lock
from gpuyard.building.python.wheels import wheel_path
from gpuyard.building.system_packages.archives.fetch import open_fetcher
from gpuyard.building.system_packages.locked import DEBS
from gpuyard.images.cache import Cache

_TIMES = 11
_WHEELS = "numpy==1.26.4\nscipy==1.13.1\npandas==2.2.3\n"
_LARGE_BYTES = 500_000_000
_CHECKPOINT_BYTES = 1_500_000_000
_FIRST = ("numpy==1.26.4", "requests==2.32.5")
#: 20 MB.
_FIRST_SIZES = (8_000_000, 4_000_000, 2_000_000, *(500_000 for _ in range(12)))
_ARCHIVES = ("http://deb.debian.org/debian", "http://security.debian.org/debian-security")
#: With what they need, 52 packages.
_SYSTEM_PACKAGES = ("libgl1", "libglib2.0-0", "libsndfile1", "libxext6", "libsm6")


def measure() -> list[Row]:
    """Medians of builds whose layers are pushed to a registry on this machine."""
    for program in ("docker-registry", "buildah", "mmdebstrap"):
        if shutil.which(program) is None:
            raise Unavailable(f"needs {program}: tools/install-system-packages images")
    # As installed: a checkout under PYTHONDONTWRITEBYTECODE would compile what it imports at each call.
    compileall.compile_dir(Path(gpuyard.__file__).parent, quiet=2)
    compileall.compile_dir(Path(httpx.__file__).parents[1], quiet=2)
    with image_site() as site:
        return [
            *_changed_line(site),
            *_first_build(site),
            _beside_a_checkpoint(site),
            *_system_packages(site),
            *_many_wheels(site),
            _large_wheel(site),
        ]


def _changed_line(site: ImageSite) -> list[Row]:
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


_PUSH = "buildah commit -q $name $image >/dev/null\nbuildah push -q --tls-verify=false $image docker://$image"


def _buildah(site: ImageSite) -> float:
    copy = "buildah copy -q $name train.py /workspace/train.py >/dev/null\n"
    return site.buildah(copy + _PUSH, image=f"{site.registry}/peer/line:v1")


def _in_process(site: ImageSite) -> float:
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


def _first_build(site: ImageSite) -> list[Row]:
    """A new repository; wheels are on this machine, and nothing else: no base, byte code or lock.

    Both compile the wheels. Of the 20 MB some files are large enough for layers of their own.
    """
    requirements = site.folder / "first.txt"
    requirements.write_text("".join(f"{line}\n" for line in _FIRST))
    data = site.app / "data"
    data.mkdir()
    for number, size in enumerate(_FIRST_SIZES):
        (data / f"{number}.bin").write_bytes(random.Random(number).randbytes(size))
    ours, theirs = [], []
    site.build("me/first:v0", "--requirements", requirements)
    wheels = _cached_wheels(site)
    for number in range(4):
        site.change_a_line()
        site.forget(but=("wheels",))
        ours.append(site.build(f"me/first{number}:v1", "--requirements", requirements))
        theirs.append(_buildah_with_uv(site, f"{site.registry}/peer/first{number}:v1", wheels))
    shutil.rmtree(data)
    (site.app / "gpuyard.lock").unlink()
    command, peer = statistics.median(ours), statistics.median(theirs)
    return [
        Row("first build, numpy, 20 MB", command, "s", 10, "buildah with uv, now", peer),
        Row("  times faster than buildah", peer / command, "×", 2.5, "buildah", 0, higher_is_better=True),
    ]


def _cached_wheels(site: ImageSite) -> Path:
    """The locked wheels under their own names."""
    folder = site.folder / "peer-wheels"
    folder.mkdir()
    lock = read_lock(site.app / "gpuyard.lock")
    assert lock
    for platform in lock.platforms.values():
        for wheel in platform.wheels:
            shutil.copy(wheel_path(Cache(site.cache), wheel), folder / wheel.file)
    return folder


def _buildah_with_uv(site: ImageSite, image: str, wheels: Path) -> float:
    """As a Dockerfile with uv does it, its wheels in a cache that is mounted."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    install = (
        "/uv/uv venv -q --system-site-packages /opt/venv && /uv/uv pip install -q --offline --no-index "
        f"--compile-bytecode --find-links /wheels --python /opt/venv/bin/python {' '.join(_FIRST)}"
    )
    script = (
        f"buildah run --isolation chroot -v {wheels}:/wheels:ro -v {Path(str(uv)).parent}:/uv:ro $name "
        f"-- sh -c '{install}'\nbuildah copy -q $name . /workspace >/dev/null\n"
    )
    return site.buildah(script + _PUSH, image=image)


def _beside_a_checkpoint(site: ImageSite) -> Row:
    noise = random.Random(0).randbytes(1 << 20)
    checkpoint = site.app / "model.pt"
    with checkpoint.open("wb") as file:
        for number in range(_CHECKPOINT_BYTES // len(noise)):
            file.write(noise[number:] + noise[:number])
    (site.folder / "Dockerfile").write_text(
        f"FROM {site.base}\nCOPY model.pt /workspace/\nCOPY train.py /workspace/\n"
    )
    ours, theirs = [], []
    for turn in range(4):
        site.change_a_line()
        ours.append(site.build("me/checkpoint:v1"))
        theirs.append(_buildah_with_layers(site, f"{site.registry}/peer/checkpoint:v1"))
        if turn == 0:
            for took in (ours, theirs):
                took.clear()  # The first of each packs the checkpoint.
    checkpoint.unlink()
    command, peer = statistics.median(ours), statistics.median(theirs)
    return Row("an edit beside 1.5 GB", command, "s", 1.0, "buildah build --layers, now", peer)


def _buildah_with_layers(site: ImageSite, image: str) -> float:
    """The checkpoint's layer comes from its cache."""
    words = ("buildah", "build", "-q", "--layers", "--tls-verify=false", "--isolation", "chroot", "-t", image)
    took = site.run(*words, "-f", site.folder / "Dockerfile", ".")
    return took + site.run("buildah", "push", "-q", "--tls-verify=false", image, f"docker://{image}")


def _system_packages(site: ImageSite) -> list[Row]:
    """The indexes and the packages are on this machine; there is no lock and no layer.

    Packages are there as gpuyard keeps them (unpacked from xz), then as they are fetched, which is what apt
    keeps. The base is there, for both: this isn't about it.
    """
    words = [word for name in _SYSTEM_PACKAGES for word in ("--system-package", name)]
    site.build("me/system:v0", *words)
    debs = asyncio.run(_fetch_debs(site))
    (lists := site.folder / "lists").mkdir()
    volumes = f"-v {debs}:/var/cache/apt/archives -v {lists}:/var/lib/apt/lists"
    apt = f"buildah run --isolation chroot {volumes} $name -- env DEBIAN_FRONTEND=noninteractive apt-get -qq"
    site.buildah(f"{apt} update")
    install = f"{apt} install -y --no-install-recommends {' '.join(_SYSTEM_PACKAGES)} >/dev/null 2>&1\n"
    kept, fetched, theirs = [], [], []
    for number in range(3):
        _forget_packages(site, debs)
        fetched.append(site.build(f"me/system{number}:v1", *words))
        shutil.rmtree(site.cache / "layers")
        (site.app / "gpuyard.lock").unlink()
        kept.append(site.build(f"me/system{number}:v2", *words))
        theirs.append(site.buildah(install + _PUSH, image=f"{site.registry}/peer/system{number}:v1"))
    (site.app / "gpuyard.lock").unlink()
    own, new, peer = map(statistics.median, (kept, fetched, theirs))
    return [
        Row("52 system packages, push", own, "s", 3.0, "buildah with apt-get, now", peer),
        Row("  just fetched, faster than buildah", peer / new, "×", 2, "buildah", 0, higher_is_better=True),
    ]


async def _fetch_debs(site: ImageSite) -> Path:
    """The locked packages as archives have them, under apt's names for them in its cache."""
    folder = site.folder / "debs"
    (folder / "partial").mkdir(parents=True)
    lock = read_lock(site.app / "gpuyard.lock")
    assert lock
    async with open_fetcher(Cache(site.folder / "fetched"), os.environ) as fetcher:
        for package in next(iter(lock.platforms.values())).system_packages:
            version = package.version.replace(":", "%3a")
            for archive in _ARCHIVES:
                url = f"{archive}/{package.path}".replace("+", "%2B")
                if path := await fetcher.fetch(url, package.sha256, package.size, DEBS, package.sha256):
                    path.rename(folder / f"{package.name}_{version}_{package.arch}.deb")
                    break
    return folder


def _forget_packages(site: ImageSite, debs: Path) -> None:
    """Leaves packages in gpuyard's cache as they were fetched: no layer, nothing of what is in them."""
    for kind in (DEBS, "layers"):
        shutil.rmtree(site.cache / kind)
    (site.cache / DEBS).mkdir()
    (site.app / "gpuyard.lock").unlink()
    for deb in debs.glob("*.deb"):
        shutil.copy(deb, site.cache / DEBS / f"{hashlib.sha256(deb.read_bytes()).hexdigest()}.deb")


def _many_wheels(site: ImageSite) -> list[Row]:
    """218 MB of files. Downloads and byte code are kept by wheel, so they are measured apart."""
    requirements = site.folder / "many.txt"
    requirements.write_text(_WHEELS)
    first = site.build("me/wheels:v0", "--requirements", requirements)
    took = []
    for number in range(3):
        shutil.rmtree(site.cache / "layers")
        took.append(site.build(f"me/wheels{number}:v1", "--requirements", requirements))
    shutil.rmtree(site.cache / "layers")
    bare = site.build("me/bare:v1", "--requirements", requirements, "--no-byte-code")
    (site.app / "gpuyard.lock").unlink()
    return [
        Row("218 MB of wheels, push", statistics.median(took), "s", 4.0, "igzip of the layer alone", 1.5),
        Row("  without byte code", bare, "s", 4.0, "igzip of the layer alone", 1.5),
        Row("  with download, byte code", first, "s", 60.0, "none: mostly the network", 0),
    ]


def _large_wheel(site: ImageSite) -> Row:
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
    return Row(
        "peak memory, 500 MB wheel",
        int(told.read_text()) / 1e3,
        "MB",
        200,
        "none: buildah has no such step",
        0,
    )


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
