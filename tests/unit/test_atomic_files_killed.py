"""Every file that is replaced or appended to, by a process that is killed at each call to the system."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from gpuyard.agent.cdi_file import CdiFile
from gpuyard.agent.marks_file import NodeMarks, read_marks, write_marks
from gpuyard.building.lock import Lock, PlatformLock, read_lock, write_lock
from gpuyard.images.cache import Cache
from gpuyard.images.oci import Digest
from gpuyard.local.http.server.certificates import Pki
from gpuyard.local.http.server.credentials import load_or_make_token, write_kubeconfig
from gpuyard.local.kubelet.devices.checkpoint import (
    Assignment,
    ContainerAllocation,
    read_checkpoint,
    write_checkpoint,
)
from gpuyard.local.kubelet.pod_folders import PodFolder, PodRecord, VolumeFile
from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime.values import Exit, ExitReason
from gpuyard.local.settings import (
    RunningYard,
    Settings,
    load_running,
    load_settings,
    save_running,
    save_settings,
)
from tests.unit.agent.test_cdi import INVENTORY

_NOW = datetime(2026, 1, 31, tzinfo=UTC)
#: What asks the system for something that a kill may cut off, by the name of the Python function.
_CALLS = {
    *("open", "write", "writelines", "flush", "close", "__exit__", "fsync", "flock", "fchmod", "chmod"),
    *("replace", "rename", "unlink", "mkdir", "rmdir"),
}
_MODULES = {"posix", "_io", "io", "fcntl"}


@dataclass(frozen=True)
class Writer:
    """How a file is written, the n-th time, and what its program reads of it afterwards."""

    write: Callable[[Path, int], object]
    read: Callable[[Path], object]


def _running(number: int) -> RunningYard:
    return RunningYard(number, number, "https://x", "n", "1", "t")


def _lock(number: int) -> Lock:
    digest = Digest(f"sha256:{number:064}")
    return Lock("base", digest, "", {"linux/amd64": PlatformLock(digest)})


def _assignment(number: int) -> Assignment:
    held = ContainerAllocation(device_ids={"nvidia.com/gpu": (str(number),)})
    return Assignment("uid", "ns", "pod", "main", held)


def _exit(number: int) -> Exit:
    return Exit(number, ExitReason.ERROR, _NOW, "x" * 3000)


def _append(folder: Path, number: int) -> None:
    path = folder / "journal"
    if not path.exists():
        os.close(journals.create(path, boot_id="b", name="n", isolation="none", started_at=_NOW))
    journals.append_exit(path, _exit(number))


def _read_journal(folder: Path) -> object:
    found = journals.read(folder / "journal")
    assert found is not None
    return found.exit


def _write_certificates(folder: Path, number: int) -> None:
    Pki(folder).ensure(_NOW + timedelta(days=number * 1000))


def _use_certificates(folder: Path) -> object:
    """They are made again where they don't fit together; what counts is that the server can use them."""
    Pki(folder).ensure(_NOW)
    Pki(folder).context()
    return "usable"


def _write_volume(folder: Path, number: int) -> None:
    files = [VolumeFile(f"{name}/key", f"{name}{number}".encode() * 9, 0o444) for name in "ab"]
    PodFolder(folder / "pod").write_volume("v", files)


def _read_volume(folder: Path) -> object:
    """No container has started before it was whole, so it is written anew first."""
    _write_volume(folder, 0)
    return sorted(path.read_bytes() for path in (folder / "pod").rglob("key"))


def _write_cache(folder: Path, number: int) -> None:
    Cache(folder).sweep()
    Cache(folder).write("kind", "name", {"n": number})


_WRITERS = {
    "settings": Writer(
        lambda folder, n: save_settings(folder / "f", Settings("H100:8", n)),
        lambda folder: load_settings(folder / "f"),
    ),
    "running file": Writer(
        lambda folder, n: save_running(folder / "f", _running(n)), lambda folder: load_running(folder / "f")
    ),
    "kubeconfig": Writer(
        lambda folder, n: write_kubeconfig(folder / "f", port=n, ca_pem=b"ca", token="token"),
        lambda folder: (folder / "f").read_bytes(),
    ),
    "certificates": Writer(_write_certificates, _use_certificates),
    "checkpoint": Writer(
        lambda folder, n: write_checkpoint(folder / "f", [_assignment(n)]),
        lambda folder: read_checkpoint(folder / "f", _NOW),
    ),
    "pod record": Writer(
        lambda folder, n: PodFolder(folder).write_record(PodRecord("ns", "pod", n)),
        lambda folder: PodFolder(folder).read_record(),
    ),
    "volume": Writer(_write_volume, _read_volume),
    "journal": Writer(_append, _read_journal),
    "node marks": Writer(
        lambda folder, n: write_marks(folder / "f", NodeMarks({"n": str(n)})),
        lambda folder: read_marks(folder / "f"),
    ),
    "CDI": Writer(
        lambda folder, n: CdiFile(folder, lambda: datetime.now(UTC)).publish(
            replace(INVENTORY, devices=INVENTORY.devices[: 1 + n % 2])
        ),
        lambda folder: [path.read_bytes() for path in folder.glob("*.json")],
    ),
    "lock": Writer(
        lambda folder, n: write_lock(folder / "gpuyard.lock", _lock(n)),
        lambda folder: read_lock(folder / "gpuyard.lock"),
    ),
    "build's cache": Writer(_write_cache, lambda folder: Cache(folder).read("kind", "name")),
}


def _write_and_die(write: Callable[[], object], calls: int) -> int:
    """Writes in a process that is killed around its call of this number; 0 when it came to its end before."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = calls

    def profile(frame: FrameType, event: str, function: Any) -> None:
        nonlocal left
        if event in ("c_call", "c_return") and function.__name__ in _CALLS and _module(function) in _MODULES:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    with suppress(BaseException):
        try:
            sys.setprofile(profile)
            write()
            sys.setprofile(None)
            code = 0
        except BaseException:
            traceback.print_exc()
    os._exit(code)


def _module(function: Any) -> str:
    """Of a function, or of the type that a method belongs to."""
    return function.__module__ or type(function.__self__).__module__


@pytest.mark.parametrize("name", sorted(_WRITERS))
def test_a_kill_leaves_the_old_or_the_new(tmp_path: Path, name: str) -> None:
    writer, folder = _WRITERS[name], tmp_path / "files"

    def names() -> set[Path]:
        return set(folder.rglob("*"))

    folder.mkdir()
    writer.write(folder, 1)
    shutil.copytree(folder, tmp_path / "first")
    old = writer.read(folder)
    writer.write(folder, 2)
    new = writer.read(folder)
    writer.write(folder, 3)
    later, whole = writer.read(folder), names()
    calls = 1
    while True:
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "first", folder)
        code = _write_and_die(lambda: writer.write(folder, 2), calls)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert writer.read(folder) in (old, new), f"killed at call {calls}"
        writer.write(folder, 3)
        assert writer.read(folder) == later
        assert names() == whole, f"what was left by a kill at call {calls} stays"
        calls += 1
    assert calls > 4


def test_a_token_is_whole_or_made_anew(tmp_path: Path) -> None:
    file, calls = tmp_path / "token", 1
    while _write_and_die(lambda: load_or_make_token(file), calls):
        found = load_or_make_token(file)
        assert load_or_make_token(file) == found
        assert [path.name for path in tmp_path.iterdir()] == ["token"]
        file.unlink()
        calls += 1
    assert calls > 4


def test_a_journal_that_was_not_whole_has_no_start(tmp_path: Path) -> None:
    """Nothing is started before it is on the disk."""
    path, calls = tmp_path / "journal", 1

    def create() -> None:
        journals.create(path, boot_id="b", name="n", isolation="none", started_at=_NOW)

    while _write_and_die(create, calls):
        found = journals.read(path)
        assert found is None or found.boot_id in ("", "b")
        path.unlink(missing_ok=True)
        calls += 1
    assert calls > 4
