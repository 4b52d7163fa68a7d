"""Where images are measured: a registry here with a Debian base, an application, tools' storage."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.yard import GPUYARD, environ_for
from tests.waiting import until

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpuyard-test"


@dataclass(frozen=True)
class ImageSite:
    """See this module."""

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

    def buildah(self, script: str, **values: str) -> float:
        """Seconds of a script with $name, a working container of the base."""
        name = f"bench-{random.getrandbits(32)}"
        opened = f"buildah from -q --tls-verify=false --isolation chroot --name $name {self.base} >/dev/null"
        given = [f"{key}={value}" for key, value in {"name": name, **values}.items()]
        took = self.run("env", *given, "sh", "-ec", f"{opened}\n{script}")
        self.run("buildah", "rm", name)
        return took

    @property
    def cache(self) -> Path:
        """gpuyard's own."""
        return self.folder / "home" / "cache"

    def forget(self, *, but: Sequence[str] = ()) -> None:
        """Leaves of gpuyard's cache some folders, of the lock nothing, and no base among buildah's images."""
        for kept in self.cache.iterdir():
            if kept.name not in but:
                shutil.rmtree(kept)
        (self.app / "gpuyard.lock").unlink(missing_ok=True)
        self.run("buildah", "rmi", "--all", "--force")

    def change_a_line(self) -> None:
        """As an editor would."""
        (self.app / "train.py").write_text(f"print({random.random()})\n")


@contextlib.contextmanager
def image_site() -> Iterator[ImageSite]:
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
    site = ImageSite(folder, f"127.0.0.1:{port}")
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
