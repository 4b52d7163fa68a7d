"""Bases as their makers lay them out, each as one more layer on a Debian with Python."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gpuyard.building.layers.layer_upload import descriptor_of, upload_new
from gpuyard.images.image import open_images
from gpuyard.images.layers import EPOCH, Entry, Packer, compression, with_parents
from gpuyard.images.oci import OCI_CONFIG, OCI_MANIFEST, History, Manifest
from gpuyard.images.places import Places
from gpuyard.images.transfer import ensure_blobs

_LEFT_OUT = frozenset({"site-packages", "test", "idlelib", "ensurepip", "lib2to3", "__pycache__"})


@dataclass(frozen=True)
class BaseLayout:
    """What lies on a Debian, and how its containers start."""

    entries: tuple[Entry, ...]
    env: tuple[tuple[str, str], ...] = ()
    user: str = ""
    entrypoint: tuple[str, ...] = ()


def file(path: str, content: str = "", mode: int = 0o644) -> Entry:
    return Entry.of_bytes(path, content.encode(), mode=mode)


def package(folder: str, name: str, version: str) -> tuple[Entry, ...]:
    """A package of Python as it is installed."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return (
        file(f"{folder}/{name}/__init__.py", f"__version__ = {version!r}\n"),
        file(f"{folder}/{name}-{version}.dist-info/METADATA", metadata),
    )


def ngc() -> BaseLayout:
    """NVIDIA's PyTorch container: packages in Debian's local folder, constraints for pip, an entrypoint.

    Source: release notes of 25.12, docs.nvidia.com/deeplearning/frameworks/pytorch-release-notes.
    """
    entrypoint = '#!/bin/bash\necho "== PyTorch =="\nexec "$@"\n'
    return BaseLayout(
        (
            *package("usr/local/lib/python3.11/dist-packages", "nvtorch", "2.10.0a0"),
            file("etc/pip/constraint.txt", "nvtorch==2.10.0a0\n"),
            file("opt/nvidia/nvidia_entrypoint.sh", entrypoint, 0o755),
            file("usr/local/cuda/compat/lib.real/libcuda.so.1", "no library"),
            Entry.link("usr/local/cuda/compat/lib", "lib.real"),
            file("workspace/README.md", "NVIDIA's own\n"),
            Entry.folder("workspace/tutorials", mode=0o777),
        ),
        (
            ("PIP_CONSTRAINT", "/etc/pip/constraint.txt"),
            ("LD_LIBRARY_PATH", "/usr/local/cuda/compat/lib:/usr/local/nvidia/lib"),
        ),
        entrypoint=("/opt/nvidia/nvidia_entrypoint.sh",),
    )


def conda() -> BaseLayout:
    """Miniconda's: a Python of its own in /opt/conda, first on PATH, beside Debian's.

    Source: github.com/anaconda/docker-images, miniconda3/debian/Dockerfile.
    """
    return BaseLayout(
        (
            *own_python("opt/conda"),
            *package("opt/conda/lib/python3.11/site-packages", "condapkg", "1.2"),
            file("opt/conda/conda-meta/condapkg-1.2-py311_0.json", "{}"),
            file("opt/conda/.condarc", "channels: [defaults]\n"),
        ),
        (("PATH", "/opt/conda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),),
    )


def own_python(prefix: str) -> Iterator[Entry]:
    """The interpreter of these tests, in a folder of an image."""
    minor = f"python3.{sys.version_info.minor}"
    here = Path(sys.base_prefix)
    yield _copied(here / "bin" / minor, f"{prefix}/bin/{minor}", 0o755)
    for name in ("python3", "python"):
        yield Entry.link(f"{prefix}/bin/{name}", minor)
    for library in (here / "lib").glob("libpython3.*.so.*"):
        yield _copied(library, f"usr/lib/{library.name}", 0o755)
    library = here / "lib" / minor
    for path in library.rglob("*"):
        inner = path.relative_to(library)
        if path.is_file() and not _LEFT_OUT & set(inner.parts):
            yield _copied(path, f"{prefix}/lib/{minor}/{inner}")


def _copied(source: Path, path: str, mode: int = 0o644) -> Entry:
    return Entry(path, source.stat().st_size, lambda: (source.read_bytes(),), mode)


def uvs() -> BaseLayout:
    """uv's: an interpreter that it fetched into root's home, with a link to it.

    Source: docs.astral.sh/uv/concepts/python-versions, "Installing Python executables", and uv's reference of
    UV_PYTHON_INSTALL_DIR.
    """
    python = "root/.local/share/uv/python/cpython-3.12.7-linux-x86_64-gnu/bin/python3.12"
    return BaseLayout(
        (
            file(python, "\x7fELF", 0o755),
            Entry.folder("root", mode=0o700),
            *(Entry.link(f"usr/local/bin/{name}", f"/{python}") for name in ("python3", "python3.12")),
        )
    )


def pyenvs() -> BaseLayout:
    """pyenv's: scripts that choose an interpreter when they run.

    Source: github.com/pyenv/pyenv, README.md, "Understanding Shims".
    """
    shim = '#!/usr/bin/env bash\nexec "/opt/pyenv/bin/pyenv" exec "${0##*/}" "$@"\n'
    return BaseLayout(
        (
            *(file(f"opt/pyenv/shims/{name}", shim, 0o755) for name in ("python", "python3", "python3.12")),
            file("opt/pyenv/versions/3.12.7/bin/python3.12", "\x7fELF", 0o755),
        ),
        (("PATH", "/opt/pyenv/shims:/opt/pyenv/bin:/usr/local/bin:/usr/bin:/bin"),),
    )


def without_shell() -> BaseLayout:
    """Distroless: Python and what it needs, and no program besides; /tmp, and a home of another user.

    Source: github.com/GoogleContainerTools/distroless, python3/README.md and base/README.md.
    """
    gone = ("sh", "bash", "dash", "rbash", "env", "ls", "cat")
    users = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
    return BaseLayout(
        (
            *(Entry.removal(f"usr/bin/{name}") for name in gone),
            file("etc/passwd", users),
            Entry.folder("home/nonroot", mode=0o700, owner=65532),
        ),
        user="65532",
        entrypoint=("/usr/bin/python3.11",),
    )


def with_links() -> BaseLayout:
    """A workdir that is a link into folders of others; homes, /opt and users are taken away."""
    return BaseLayout(
        (
            Entry.link("workspace", "/data/ws"),
            Entry.folder("data", mode=0o711, owner=33, group=44),
            Entry.folder("data/ws", mode=0o2770, owner=33, group=44),
            file("data/ws/theirs.txt", "the base's\n"),
            Entry.removal("home"),
            Entry.removal("opt"),
            Entry.removal("etc/passwd"),
        )
    )


def linked_system() -> BaseLayout:
    """On top of `with_links`: what it took away comes back as links, as on Fedora's immutable systems."""
    users = "root:x:0:0:root:/root:/bin/bash\nsomeone:x:1000:1000::/home/someone:/bin/sh\n"
    return BaseLayout(
        (
            Entry.link("home", "var/home"),
            Entry.folder("var/home", mode=0o555),
            Entry.link("opt", "var/opt"),
            Entry.link("etc/passwd", "static/passwd"),
            file("etc/static/passwd", users),
        )
    )


def stack(base: str, name: str, layout: BaseLayout) -> None:
    """Makes an image of a base and one more layer."""
    asyncio.run(_stack(base, name, layout.entries, layout))


async def _stack(base: str, name: str, entries: Iterable[Entry], layout: BaseLayout) -> None:
    async with Places({}) as places:
        (image,) = (await open_images(await places.open(base))).images
        target = await places.open(name, write=True)
        layer = await upload_new(
            target.store,
            lambda: Packer.of_entries(with_parents(entries), EPOCH, compression()),
            lambda size: None,
        )
        container = image.config.container
        config = replace(
            image.config,
            container=replace(
                container,
                env=_merged(container.environment, dict(layout.env)),
                user=layout.user,
                entrypoint=layout.entrypoint,
            ),
            diff_ids=(*image.config.diff_ids, layer.diff_id),
            history=(*image.config.history, History(created_by="COPY layout /")),
        ).to_bytes()
        descriptor, blob = descriptor_of(OCI_CONFIG, config)
        await ensure_blobs(target.store, [blob])
        manifest = Manifest(config=descriptor, layers=(*image.manifest.layers, layer.blob))
        await target.store.put_manifest(manifest.to_bytes(), OCI_MANIFEST, target.tag)


def _merged(env: Mapping[str, str], more: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in {**env, **more}.items())
