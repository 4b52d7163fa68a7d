"""Images that the cluster itself needs, made from files of this machine and pushed to its registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

_BUSYBOX = Path("/bin/busybox")
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
#: What a sandbox runs: it waits, and takes in orphans.
_PAUSE = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done"


def push_base_images(registry: str, coredns: Path) -> None:
    """Pushes pause:1, busybox:1 and coredns:1."""
    applets = subprocess.run([_BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    busybox = layer(
        {"bin/busybox": _BUSYBOX}, {f"bin/{name}": "busybox" for name in applets if name != "busybox"}
    )
    push(registry, "pause", layer({"bin/busybox": _BUSYBOX}), ["/bin/busybox", "sh", "-c", _PAUSE])
    push(registry, "busybox", busybox, ["/bin/sh"])
    push(registry, "coredns", layer({"coredns": coredns}), ["/coredns"])


def layer(files: Mapping[str, Path], links: Mapping[str, str] | None = None) -> bytes:
    """A tar with programs, links to them, and what a root file system needs besides."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        _add(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n", 0o644)
        for name, path in files.items():
            _add(tar, name, path.read_bytes(), 0o755)
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))


def push(registry: str, name: str, tar: bytes, command: Sequence[str], tag: str = "1") -> str:
    """Pushes an image of one layer; gives its reference.

    Args:
        registry: HOST:PORT, plain HTTP.
        tar: the layer, not compressed.
        command: the image's command.
    """
    packed = gzip.compress(tar, compresslevel=1, mtime=0)
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": {"Cmd": list(command), "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(tar)]},
    }
    with httpx.Client(base_url=f"http://{registry}/v2/{name}/", timeout=60, trust_env=False) as client:
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _blob(client, json.dumps(config).encode(), _CONFIG),
            "layers": [_blob(client, packed, _LAYER)],
        }
        client.put(
            f"manifests/{tag}", content=json.dumps(manifest), headers={"Content-Type": _MANIFEST}
        ).raise_for_status()
    return f"{registry}/{name}:{tag}"


def _blob(client: httpx.Client, data: bytes, media_type: str) -> dict[str, Any]:
    digest = _digest(data)
    if client.head(f"blobs/{digest}").status_code != httpx.codes.OK:
        location = client.post("blobs/uploads/").raise_for_status().headers["Location"]
        client.put(
            httpx.URL(location).copy_merge_params({"digest": digest}),
            content=data,
            headers={"Content-Type": "application/octet-stream"},
        ).raise_for_status()
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
