from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.registry.conftest import docker_registry

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpuyard-test"
_PACKAGES = "python3,python3-yaml,ca-certificates"
_TORCH_PACKAGES = "python3-torch,python3-numpy"
#: A third of what comes with it, and nothing that Python imports: graphics drivers, documents, tests.
_TORCH_EXTRAS = (
    "usr/lib/*/dri usr/lib/*/mfx usr/lib/*/libmfxhw64.so* usr/lib/*/libLLVM-* usr/lib/*/libz3.so* "
    "usr/lib/*/perl usr/share/perl usr/share/proj usr/share/doc usr/share/man usr/share/locale "
    "usr/lib/python3/dist-packages/torch/bin/test_* "
    "usr/lib/python3/dist-packages/sympy/integrals/rubi"
)
GPUYARD = Path(sys.executable).with_name("gpuyard")


@pytest.fixture(scope="session")
def debian_tar() -> Path:
    """A Debian with Python made of its packages, once per machine."""
    return _debian("debian-12-python", _PACKAGES)


@pytest.fixture(scope="session")
def torch_tar() -> Path:
    """A Debian with PyTorch, made of its packages, once per machine; 0.8 GB."""
    return _debian("debian-12-torch", _TORCH_PACKAGES, f"--customize-hook=cd $1 && rm -r {_TORCH_EXTRAS}")


def _debian(name: str, packages: str, *options: str) -> Path:
    """A root file system of Debian's packages, from the cache of this machine."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("needs mmdebstrap: tools/install-system-packages images")
    _CACHE.mkdir(parents=True, exist_ok=True)
    made = _CACHE / f"{name}.tar"
    with (_CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            unfinished = made.with_suffix(".new.tar")
            words = ("--quiet", "--variant=minbase", f"--include={packages}", *options)
            subprocess.run(["mmdebstrap", *words, "bookworm", unfinished], check=True)
            unfinished.rename(made)
    return made


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Site:
    """A registry with a Debian base, and a folder for commands to run in."""

    registry: str
    folder: Path

    @property
    def base(self) -> str:
        return f"{self.registry}/base/debian:12"

    def gpuyard(
        self, *words: str | Path, cwd: Path | None = None, home: Path | None = None, **env: str
    ) -> Done:
        """Runs a command with a cache and a home of the site's own."""
        own = {"HOME": str(home or self.folder), "GPUYARD_HOME": str(home or self.folder)}
        environ = {
            k: v for k, v in os.environ.items() if not k.startswith(("GPUYARD_", "XDG_", "SOURCE_DATE"))
        }
        done = subprocess.run(
            [GPUYARD, *words], cwd=cwd or self.folder, env=environ | own | env, capture_output=True, text=True
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str | Path, cwd: Path | None = None, home: Path | None = None, **env: str) -> Done:
        """As `gpuyard`, for a command that must succeed."""
        done = self.gpuyard(*words, cwd=cwd, home=home, **env)
        assert done.code == 0, done.err
        return done

    def tags(self, repository: str) -> list[str]:
        """Tags that people gave; those of the referrers' fallback are left out."""
        import httpx

        answer = httpx.get(f"http://{self.registry}/v2/{repository}/tags/list")
        return sorted(tag for tag in answer.json().get("tags") or () if not tag.startswith("sha256-"))


@pytest.fixture(scope="session")
def site(debian_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A registry to which the base was imported."""
    if shutil.which("docker-registry") is None:
        pytest.skip("needs docker-registry: tools/install-system-packages images")
    folder = tmp_path_factory.mktemp("site")
    with docker_registry(folder) as registry:
        made = Site(registry, folder)
        made.ok("image", "import", debian_tar, "-t", made.base)
        yield made


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder with one script."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "train.py").write_text("print('hello from the image')\n")
    return folder


@dataclass(frozen=True)
class Containers:
    """podman and buildah with storage of their own."""

    folder: Path

    def run(self, *words: str) -> str:
        """What a command prints."""
        environ = os.environ | {"CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf")}
        done = subprocess.run(words, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    def python(self, image: str, code: str) -> str:
        """What Python prints in a container of the image."""
        return self.run(*self._podman(), image, "python", "-c", code)

    def start(self, image: str, *words: str) -> str:
        """What a command prints in a container of the image, through its entrypoint."""
        return self.run(*self._podman(), image, *words)

    def _podman(self) -> Sequence[str]:
        # On this kind of machine crun refuses the cgroups, and podman's limits are above the hard ones.
        limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
        return (
            "podman",
            "--runtime",
            "runc",
            "run",
            "--rm",
            "--tls-verify=false",
            "--network",
            "none",
            *limits,
        )


@pytest.fixture(scope="session")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """podman, as root; its images go away at the end."""
    if shutil.which("podman") is None or os.getuid() != 0:
        pytest.skip("needs podman and root: tools/install-system-packages images")
    folder = tmp_path_factory.mktemp("containers")
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n'
    )
    made = Containers(folder)
    yield made
    made.run("podman", "rmi", "--all", "--force")
