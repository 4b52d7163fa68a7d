"""What a training saves, killed at each call to the system; and what its ranks agree on."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from gpuyard import checkpoint

#: What asks the system for something that a kill may cut off, by the name of the Python function.
_CALLS = {
    "open",
    "write",
    "close",
    "__exit__",
    "fsync",
    "flock",
    "replace",
    "unlink",
    "mkdir",
    "rmdir",
    "utime",
}


def _file(path: Path, text: str) -> None:
    path.write_text(text)


def _folder(path: Path, text: str) -> None:
    path.mkdir()
    (path / "model").write_text(text)
    (path / "optimizer").mkdir()
    (path / "optimizer" / "state").write_text(text)


def _read(path: Path | None) -> set[str]:
    assert path is not None
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    assert len(files) == (1 if path.is_file() else 2)
    return {file.read_text() for file in files}


def _killed(save: Callable[[], None], at: int) -> bool:
    """Saves in a process that is killed before its call number `at`; False when it has ended before."""
    pid = os.fork()
    if pid:
        return os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    done = 0

    def count(frame: FrameType, event: str, called: Any) -> None:
        nonlocal done
        if event == "c_call" and called.__name__ in _CALLS:
            if done == at:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1

    try:
        sys.setprofile(count)
        save()
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.parametrize(
    ("write", "names"),
    [(_file, ("last.pt", "last.pt")), (_folder, ("step-1", "step-2"))],
)
def test_a_kill_leaves_the_checkpoint_before_or_the_new_one(
    tmp_path: Path, write: Callable[[Path, str], None], names: tuple[str, str]
) -> None:
    def save(name: str, text: str) -> None:
        with checkpoint.save(tmp_path / "all" / name) as path:
            write(path, text)

    found, at = [], 0
    while True:
        shutil.rmtree(tmp_path / "all", ignore_errors=True)
        save(names[0], "old")
        was_killed = _killed(lambda: save(names[1], "new"), at)
        found.append(_read(checkpoint.latest(tmp_path / "all")))
        if not was_killed:
            break
        save("next", "next")
        assert not list((tmp_path / "all").glob(".*")), f"a kill before call {at} leaves something"
        at += 1
    assert at > 8
    assert found == sorted(found, key=lambda texts: texts == {"new"})
    assert {"old"} in found and found[-1] == {"new"}
    assert all(len(texts) == 1 for texts in found)


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), checkpoint.save(tmp_path / "a") as path:
        path.write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "a") is None


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(FileExistsError, match="a name of its own"), checkpoint.save(tmp_path / "a"):
        pass


def test_what_another_saves_is_left_alone(tmp_path: Path) -> None:
    with checkpoint.save(tmp_path / "a") as first:
        first.write_text("a")
        with checkpoint.save(tmp_path / "b") as second:
            second.write_text("b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with the one file, as images without gpuyard have it."""
    folder = tmp_path / "image"
    folder.mkdir()
    printed = subprocess.check_output([sys.executable, "-m", "gpuyard.checkpoint"])
    (folder / "checkpoint.py").write_bytes(printed)
    return folder


_TRAINS = """
import checkpoint, os, signal, sys
assert "torch" not in sys.modules
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"handled\\n"))
checkpoint.stop_requested()
os.kill(os.getpid(), signal.{0})
assert checkpoint.stop_requested()
with checkpoint.save("a") as path:
    path.write_text("a")
"""


@pytest.mark.parametrize(("name", "printed"), [("SIGTERM", "handled\n"), ("SIGUSR1", "")])
def test_a_save_after_a_stop_says_that_it_is_done(copied: Path, name: str, printed: str) -> None:
    env = {"GPUYARD_SAVED": str(copied / "saved"), "GPUYARD_SIGNAL": "SIGUSR1 60"}
    said = subprocess.check_output(
        [sys.executable, "-c", _TRAINS.format(name)], cwd=copied, env=env, text=True, timeout=60
    )
    assert said == printed
    assert (copied / "saved").exists() and (copied / "a").exists()


_RANK = """
import checkpoint, os, sys, time
import torch.distributed as dist
dist.init_process_group("gloo")
steps = 0
while not checkpoint.stop_requested():
    steps += 1
    if steps == 1:
        os.write(1, b"up\\n")
    time.sleep(0.01)
with checkpoint.save(f"rank-{dist.get_rank()}") as path:
    path.write_text(str(steps))
assert not os.path.exists(os.environ["GPUYARD_SAVED"])  # the other rank may still write
dist.barrier()
checkpoint.saved()
assert os.path.exists("rank-0") and os.path.exists("rank-1")
"""


@pytest.mark.torch
def test_ranks_stop_at_the_same_step(copied: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    wiring = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            ["/usr/bin/python3", "-c", _RANK],
            cwd=copied,
            env={**wiring, "RANK": str(rank), "GPUYARD_SAVED": str(copied / "saved")},
            stdout=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    try:
        for rank in ranks:
            assert rank.stdout is not None and rank.stdout.readline() == b"up\n"
        ranks[1].send_signal(signal.SIGTERM)  # to one of them alone
        assert [rank.wait(60) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    assert (copied / "rank-0").read_text() == (copied / "rank-1").read_text()
    assert (copied / "saved").exists()
