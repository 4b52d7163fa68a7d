"""For trainings: whether to stop, and checkpoints that are whole or not there.

    from gpuyard import checkpoint

    last = checkpoint.latest("checkpoints")
    for step in range(first_after(last), STEPS):
        train()
        if checkpoint.stop_requested():
            with checkpoint.save(f"checkpoints/{step}.pt") as path:
                torch.save(state, path)
            raise SystemExit(143)

One file, standard library only, Python 3.8 and later. It can be copied to where gpuyard isn't installed:
`python -m gpuyard.checkpoint > checkpoint.py`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: No checkpoint is called so: what is, is being saved, or was by a process that was killed.
_PREFIX = ".gpuyard-saving-"
_LOCK = "lock"


class _Stop:
    """What this process knows of its stop."""

    listens = False
    asked = False
    #: All ranks know.
    agreed = False


def stop_requested() -> bool:
    """Whether the run is to end: SIGTERM has come, or the signal of its `--signal`.

    Signals count from the first call on, which has to come from the main thread; handlers that were there
    before are called, too. Where torch.distributed is initialised, all ranks answer alike, by an all-reduce:
    each has to ask as often as the others.

    Raises:
        ValueError: the first call comes from another thread.
    """
    if not _Stop.listens:
        early = os.environ.get("GPUYARD_SIGNAL", "").split()
        for name in ("SIGTERM", *early[:1]):
            _listen(signal.Signals[name])
        _Stop.listens = True
    group = _group()
    if group is None or _Stop.agreed:
        return _Stop.asked
    torch = sys.modules["torch"]
    device = "cuda" if "nccl" in str(group.get_backend()) else "cpu"
    asked = torch.tensor([int(_Stop.asked)], device=device)
    group.all_reduce(asked, op=group.ReduceOp.MAX)
    _Stop.asked = _Stop.agreed = bool(asked.item())
    return _Stop.asked


@contextlib.contextmanager
def save(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a path to write a file or a folder at, which gets the name `path` when the block has ended and
    all is on the disk.

    Who is killed before leaves what was there before. A file takes the place of another; a folder, which
    can't do so in one step, needs a name of its own. When a run of one process saves after a stop, `saved` is
    called, too.

    Args:
        path: of the checkpoint. The folder that it lies in is made.

    Raises:
        FileExistsError: a folder is there already.
        OSError: it can't be written.
    """
    target = Path(path).absolute()
    if target.is_dir():
        why = "it is a folder already: give each checkpoint a name of its own"
        raise OSError(errno.EEXIST, why, str(target))  # a FileExistsError
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    with _unfinished(target.parent) as folder:
        made = folder / target.name
        yield made
        _flush(made)
        made.replace(target)
        _flush_one(target.parent)
    if _Stop.asked and _group() is None and os.environ.get("WORLD_SIZE", "1") == "1":
        saved()


def saved() -> None:
    """Says that a run that is being stopped has nothing left to save, so that nobody waits for it any longer.

    What hasn't ended two seconds later is killed, where the run has a `--grace`. Where torch.distributed is
    initialised all ranks call it, also those that write nothing, and it returns when all have.
    """
    group = _group()
    if group is not None:
        group.barrier()
    place = os.environ.get("GPUYARD_SAVED")
    if place:
        Path(place).touch()


def latest(path: str | os.PathLike[str]) -> Path | None:
    """The newest checkpoint in a folder, by the time of its last change; None where there is none.

    A file is its own newest. What a killed process left unfinished doesn't count.

    Args:
        path: the folder in which checkpoints are saved, or the file that is written again and again.
    """
    place = Path(path)
    if place.is_file():
        return place
    if not place.is_dir():
        return None
    whole = [entry for entry in place.iterdir() if not entry.name.startswith(_PREFIX)]
    return max(whole, key=lambda entry: (entry.stat().st_mtime_ns, entry.name), default=None)


def _listen(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def ask(number: int, frame: Any) -> None:
        _Stop.asked = True
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)

    signal.signal(number, ask)


def _group() -> Any:
    """torch.distributed, where the program has imported and initialised it."""
    group: Any = sys.modules.get("torch.distributed")
    return group if group is not None and group.is_available() and group.is_initialized() else None


@contextlib.contextmanager
def _unfinished(parent: Path) -> Iterator[Path]:
    """A new folder that is this process's for as long as it holds the lock in it."""
    while True:
        folder = parent / (_PREFIX + os.urandom(8).hex())
        folder.mkdir()
        # A sweep may have taken it for a leftover before it was locked.
        with contextlib.suppress(FileNotFoundError):
            lock = (folder / _LOCK).open("w")
            # Where a file system has no locks there is nobody who sweeps.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock.fileno()).st_nlink:
                break
            lock.close()
    with lock:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Removes what killed processes left."""
    for folder in parent.glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):
            if not (folder / _LOCK).exists():
                folder.rmdir()
                continue
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The lock goes last: without it the rest would be nobody's.
                for entry in folder.iterdir():
                    if entry.name != _LOCK:
                        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
                shutil.rmtree(folder)


def _flush(made: Path) -> None:
    """Has all of a file or a folder written to the disk."""
    for folder, _, files in os.walk(made):
        for file in (Path(folder, name) for name in files):
            if not file.is_symlink():
                _flush_one(file)
        _flush_one(Path(folder))
    if not made.is_dir():
        _flush_one(made)


def _flush_one(place: Path) -> None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not place.is_dir():  # not every file system can do that of a folder
            raise
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    sys.stdout.write(Path(__file__).read_text(encoding="utf-8"))
