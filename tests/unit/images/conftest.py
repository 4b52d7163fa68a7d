from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest

from gpuyard.building.build import build
from gpuyard.building.image_import import import_root
from gpuyard.building.request import Allowed, BuildRequest, ImageSettings, LockUse
from gpuyard.building.result import BuildResult
from gpuyard.images.cache import Cache
from gpuyard.images.layers import compression
from gpuyard.images.oci import Config, Manifest, Platform, parse_manifest
from gpuyard.images.places import Places
from gpuyard.images.store import read_blob

MakeWheel = Callable[..., Path]
#: Of a tar or a layer: content by path.
Files = Mapping[str, bytes | str]

#: What glibc's own file says of itself.
LIBC = b"\x7fELF...GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n"


@pytest.fixture
def make_wheel(tmp_path: Path) -> MakeWheel:
    """Writes a wheel into tmp_path/wheels."""

    def make(
        name: str = "demo",
        version: str = "1.0",
        files: Mapping[str, bytes | str] | None = None,
        *,
        entry_points: str = "",
        requires: tuple[str, ...] = (),
        executable: tuple[str, ...] = (),
        tag: str = "py3-none-any",
    ) -> Path:
        dist_info = f"{name}-{version}.dist-info"
        content: dict[str, bytes | str] = dict(files or {f"{name}/__init__.py": "x = 1\n"})
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        content[f"{dist_info}/METADATA"] = metadata + "".join(f"Requires-Dist: {r}\n" for r in requires)
        content[f"{dist_info}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
        if entry_points:
            content[f"{dist_info}/entry_points.txt"] = entry_points
        raw = {path: text.encode() if isinstance(text, str) else text for path, text in content.items()}
        record = io.StringIO()
        rows = csv.writer(record, lineterminator="\n")
        for path, data in raw.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.writerow((path, f"sha256={digest}", len(data)))
        rows.writerow((f"{dist_info}/RECORD", "", ""))
        raw[f"{dist_info}/RECORD"] = record.getvalue().encode()
        folder = tmp_path / "wheels"
        folder.mkdir(exist_ok=True)
        file = folder / f"{name}-{version}-{tag}.whl"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in raw.items():
                info = zipfile.ZipInfo(path)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = (0o755 if path in executable else 0o644) << 16
                archive.writestr(info, data)
        return file

    return make


def tar_of(files: Files) -> bytes:
    """A tar; a value `-> TARGET` is a symbolic link, `=> TARGET` a hard link, a path ending in / a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path.rstrip("/"))
            data = os.fsencode(content) if isinstance(content, str) else content
            if path.endswith("/"):
                info.type, data = tarfile.DIRTYPE, b""
            elif data.startswith(b"-> "):
                info.type, info.linkname, data = tarfile.SYMTYPE, os.fsdecode(data[3:]), b""
            elif data.startswith(b"=> "):
                info.type, info.linkname, data = tarfile.LNKTYPE, os.fsdecode(data[3:]), b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def debian_files() -> dict[str, bytes | str]:
    """The few files of a Debian with Python that a build looks at."""
    return {
        "bin": "-> usr/bin",
        "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
        "usr/bin/python3": "-> python3.11",
        "usr/bin/python3.11": b"\x7fELF",
        "usr/lib/x86_64-linux-gnu/libc.so.6": LIBC,
        "usr/lib/python3/dist-packages/yaml/__init__.py": "",
        "usr/lib/python3/dist-packages/PyYAML-6.0.egg-info/PKG-INFO": "Name: PyYAML\nVersion: 6.0\n",
    }


class Heard:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def bytes(self, what: str, done: int, total: int) -> None:
        pass


#: What tests call the parts of a request, where these have shorter names.
_ALLOWED = {
    "allow_secrets": "secrets",
    "allow_missing_libraries": "missing_libraries",
    "build_project": "project",
    "build_sources": "sources",
    "lock": "file",
    "lock_stays": "stays",
}


def request_of(said: Mapping[str, Any]) -> BuildRequest:
    """A request of fields and of those of its parts."""
    left = {_ALLOWED.get(name, name): value for name, value in said.items()}
    parts: dict[str, Any] = {}
    for name, part in (("image", ImageSettings), ("locking", LockUse), ("allowed", Allowed)):
        parts[name] = part(**{each.name: left.pop(each.name) for each in fields(part) if each.name in left})
    return BuildRequest(**left, **parts)


@dataclass
class Workshop:
    """A folder with a base, an application, a cache and an index of wheels; no network."""

    folder: Path
    heard: Heard = field(default_factory=Heard)

    @property
    def app(self) -> Path:
        return self.folder / "app"

    @property
    def base(self) -> str:
        return f"oci:{self.folder / 'base'}:12"

    @property
    def target(self) -> str:
        return f"oci:{self.folder / 'out'}:v1"

    @property
    def environ(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "UV_NO_CACHE": "1"}

    @property
    def cache(self) -> Cache:
        return Cache(self.folder / "cache")

    async def make_base(
        self, files: Files | None = None, platform: str = "linux/amd64", name: str = "12"
    ) -> None:
        rootfs = self.folder / "rootfs.tar"
        rootfs.write_bytes(tar_of(debian_files() if files is None else files))
        async with Places({}) as places:
            place = await places.open(f"oci:{self.folder / 'base'}:{name}", write=True)
            await import_root(
                rootfs, place, Platform.parse(platform), compression(), {}, lambda done, total: None
            )

    def offer_wheels(self) -> None:
        """Makes the folder of wheels uv's only index."""
        wheels = self.folder / "wheels"
        wheels.mkdir(exist_ok=True)
        (self.folder / "uv.toml").write_text(f'no-index = true\nfind-links = ["{wheels}"]\n')

    def require(self, *lines: str) -> Path:
        file = self.folder / "requirements.txt"
        file.write_text("".join(f"{line}\n" for line in lines))
        return file

    async def build(self, **changes: object) -> BuildResult:
        request = request_of({"base": self.base, "target": self.target, "root": self.app} | changes)
        async with Places(self.environ) as places:
            return await build(request, places, self.cache, self.environ, self.heard)

    async def read(self, target: str | None = None) -> tuple[Manifest, Config]:
        async with Places({}) as places:
            place = await places.open(target or self.target)
            found, content = await place.store.get_manifest(place.target)
            manifest = parse_manifest(content, found.media_type)
            assert isinstance(manifest, Manifest)
            return manifest, Config.parse(await read_blob(place.store, manifest.config))

    async def layer(self, number: int, target: str | None = None) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
        """Members of one of the image's layers, by path."""
        manifest, _ = await self.read(target)
        async with Places({}) as places:
            place = await places.open(target or self.target)
            content = await read_blob(place.store, manifest.layers[number])
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            return {
                info.name: (info, archive.extractfile(info).read() if info.isreg() else b"")  # type: ignore[union-attr]
                for info in archive
            }


@pytest.fixture
async def workshop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """With the base made and one file in the application."""
    made = Workshop(tmp_path)
    made.app.mkdir()
    made.offer_wheels()
    (made.app / "train.py").write_text("print('hello')\n")
    await made.make_base()
    yield made


@pytest.fixture
def umask() -> Iterator[Callable[[int], object]]:
    """Sets the umask until the test ends."""
    before = os.umask(0)
    os.umask(before)
    yield os.umask
    os.umask(before)
