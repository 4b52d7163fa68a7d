"""Builds by a user who isn't root: with a home and a cache of one's own, and folders that others made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.images.conftest import GPUYARD, Done, Site
from tests.registry.conftest import docker_registry
from tests.unit.images.conftest import debian_files, tar_of

_UID = 4242


@dataclass(frozen=True)
class Person:
    """A user without a name on this machine, and a folder of root's with a home for him."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def app(self) -> Path:
        return self.folder / "app"

    @property
    def base(self) -> str:
        return f"oci:{self.folder}/bases:debian"

    def gpuyard(self, *words: str, umask: str = "022", cwd: Path | None = None, **env: str) -> Done:
        """Runs a command as him."""
        own = {"HOME": str(self.home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        done = subprocess.run(
            [*_as_user(), "sh", "-c", f'umask {umask} && exec "$0" "$@"', str(GPUYARD), *words],
            cwd=cwd or self.app,
            env=own | env,
            capture_output=True,
            text=True,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def owners(self, folder: Path) -> set[int]:
        """Of all that is in a folder."""
        return {path.lstat().st_uid for path in folder.rglob("*")}


def _as_user() -> list[str]:
    """What stands before a command of his; the interpreter of these tests may lie in root's home."""
    drop = ["setpriv", f"--reuid={_UID}", f"--regid={_UID}", "--clear-groups", "--inh-caps=-all"]
    python = Path(sys.base_prefix)
    closed = [path for path in (python, *python.parents) if not path.stat().st_mode & 0o001]
    if not closed:
        return drop
    see = ["--perms", "0755", "--tmpfs", str(closed[-1])]
    for folder in [path for path in reversed(python.parents) if closed[-1] in path.parents]:
        see += ["--perms", "0755", "--dir", str(folder)]
    see += ["--ro-bind", str(python), str(python)]
    return ["bwrap", "--dev-bind", "/", "/", *see, "--cap-add", "ALL", "--die-with-parent", "--", *drop]


@pytest.fixture
def person() -> Iterator[Person]:
    if os.getuid() != 0 or not (shutil.which("setpriv") and shutil.which("bwrap")):
        pytest.skip("needs root, setpriv and bubblewrap, to become another user")
    made = Person(Path(tempfile.mkdtemp(prefix="gpuyard-person-")))
    try:
        made.folder.chmod(0o755)
        made.home.mkdir(mode=0o700)
        os.chown(made.home, _UID, _UID)
        made.app.mkdir()
        (made.app / "train.py").write_text("print('hello')\n")
        (made.folder / "rootfs.tar").write_bytes(tar_of(debian_files()))
        Site("", made.folder).ok("image", "import", made.folder / "rootfs.tar", "-t", made.base)
        yield made
    finally:
        shutil.rmtree(made.folder)


def digest(done: Done) -> str:
    assert done.code == 0, done.err
    found: str = done.json["digest"]
    return found


def test_a_build_into_a_layout_with_any_umask(person: Person) -> None:
    os.chown(person.app, _UID, _UID)
    words = ("build", "-o", "json", "--base", person.base, "-t")
    first = digest(person.gpuyard(*words, f"oci:{person.home}/images:v1", umask="077"))
    assert digest(person.gpuyard(*words, f"oci:{person.home}/other:v1")) == first
    assert digest(Site("", person.folder).ok(*words, "oci:roots:v1", cwd=person.app)) == first
    assert person.owners(person.home) == {_UID}
    assert (person.home / ".cache/gpuyard").stat().st_mode & 0o777 == 0o700
    assert digest(person.gpuyard(*words, f"oci-archive:{person.home}/image.tar:v1")) == first
    with tarfile.open(person.home / "image.tar") as archive:
        assert "index.json" in archive.getnames()


def test_a_build_into_a_registry(person: Person) -> None:
    if shutil.which("docker-registry") is None:
        pytest.skip("needs docker-registry: tools/install-system-packages images")
    os.chown(person.app, _UID, _UID)
    with docker_registry(person.folder) as registry:
        image = f"{registry}/me/train:v1"
        pushed = digest(person.gpuyard("build", "-o", "json", "--base", person.base, "-t", image))
        assert pushed in Site(registry, person.folder).ok("image", "show", image).out


def test_a_checkout_that_cannot_be_written(person: Person) -> None:
    words = ("build", "-o", "json", "--base", person.base, "-t")
    refused = person.gpuyard(*words, f"oci:{person.home}/images:v1")
    assert refused.code != 0
    assert "can't write gpuyard.lock: Permission denied" in refused.err
    assert "gpuyard.lock written" not in refused.err
    first = digest(Site("", person.folder).ok(*words, "oci:roots:v1", cwd=person.app))
    assert digest(person.gpuyard(*words, f"oci:{person.home}/images:v1")) == first


def test_a_checkout_of_anothers_in_git(person: Person) -> None:
    (person.app / ".gitignore").write_text("*.log\n")
    (person.app / "noise.log").write_text("x")
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.com")
    for action in (("init", "-q"), ("add", "."), ("commit", "-qm", "x")):
        subprocess.run([*git, *action], cwd=person.app, check=True)
    words = ("build", "-o", "json", "--base", person.base, "-t")
    Site("", person.folder).ok(*words, "oci:roots:v1", cwd=person.app)
    done = person.gpuyard(*words, f"oci:{person.home}/images:v1")
    assert done.code == 0, done.err


def test_a_cache_that_root_made(person: Person) -> None:
    os.chown(person.app, _UID, _UID)
    cache = person.home / ".cache"
    (cache / "gpuyard").mkdir(mode=0o700, parents=True)
    words = ("build", "-o", "json", "--base", person.base, "-t", f"oci:{person.home}/images:v1")
    done = person.gpuyard(*words)
    assert done.code != 0
    assert f"can't write the build's cache {cache}/gpuyard: Permission denied" in done.err
    assert "XDG_CACHE_HOME" in done.err
    assert f"sudo chown -R {_UID} {cache}" in done.err
    os.chown(cache, _UID, _UID)
    os.chown(cache / "gpuyard", _UID, _UID)
    (cache / "gpuyard" / "bases").mkdir(mode=0o700)
    done = person.gpuyard(*words)
    assert f"sudo chown -R {_UID} {cache}/gpuyard/bases" in done.err
    digest(person.gpuyard(*words, XDG_CACHE_HOME=str(person.home / "own")))


def test_a_home_that_is_not_there(person: Person) -> None:
    os.chown(person.app, _UID, _UID)
    done = person.gpuyard("build", "--base", person.base, "-t", "oci:out:v1", HOME="/nonexistent")
    assert done.code != 0
    assert "can't write the build's cache /nonexistent/.cache/gpuyard" in done.err


def test_a_layout_of_anothers(person: Person) -> None:
    os.chown(person.app, _UID, _UID)
    done = person.gpuyard("build", "--base", person.base, "-t", f"oci:{person.folder}/bases:v1")
    assert done.code != 0
    assert "bases" in done.err and "Permission denied" in done.err, done.err


def test_a_file_that_only_root_reads(person: Person) -> None:
    os.chown(person.app, _UID, _UID)
    (person.app / "weights.bin").write_text("x")
    (person.app / "weights.bin").chmod(0o600)
    done = person.gpuyard("build", "--base", person.base, "-t", f"oci:{person.home}/images:v1")
    assert done.code != 0
    assert "weights.bin: Permission denied" in done.err
    assert ".gpuyardignore" in done.err
