"""What a file says of simulated GPUs: which are unhealthy, how they are split, which are idle though
a run has them, who else is on them.

    {"unhealthy": {"3": "XID 79"},
     "mig": {"0": ["3g.40gb@0", "3g.40gb@4"], "1": []},
     "idle": ["0"],
     "processes": [{"gpu": "3", "pid": 4711, "memory_mib": 21504, "user": "alice", "command": "python"}]}

A GPU is named by its index or its UUID. Whatever is wrong is told and left out, and the rest counts.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.atomic_files import replace_file
from gpuyard.devices.inventory import Device, Inventory, Mig
from gpuyard.devices.mig_layout import GpuPlan
from gpuyard.devices.simulated.mig import split
from gpuyard.regular_files import read_regular

_KEYS = ("unhealthy", "mig", "idle", "processes")
#: Whoever changes the file has done so in milliseconds.
_LOCK_TIMEOUT_S, _LOCK_POLL_S = 5.0, 0.05
_MAX_PID = 1 << 22  # PID_MAX_LIMIT of Linux
_MAX_MEMORY_MIB = 1 << 30
_MAX_REASON_LENGTH = 200
#: So many mistakes are told, and so much of each.
_MAX_MISTAKES, _MAX_MISTAKE_LENGTH = 32, 500


@dataclass(frozen=True)
class SimulatedProcess:
    """A make-believe process that no run started.

    Attributes:
        gpu: UUID of the GPU that it is on.
        memory_mib: what it holds there.
        user, command: who runs it, and what; may be empty.
    """

    gpu: str
    pid: int
    memory_mib: int
    user: str = ""
    command: str = ""


@dataclass(frozen=True)
class SimulatedState:
    """What the file says.

    Attributes:
        unhealthy: why, by the GPU's UUID.
        mig: how the GPUs that have MIG enabled are split, by the GPU's UUID.
        idle: UUIDs of those that nothing uses, though a run may have them.
        processes: who else is on them.
    """

    unhealthy: Mapping[str, str] = field(default_factory=dict)
    mig: Mapping[str, Mig] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()
    processes: tuple[SimulatedProcess, ...] = ()


def read_state(path: Path, inventory: Inventory) -> tuple[SimulatedState, tuple[str, ...]]:
    """What the file says of these GPUs, nothing when it isn't there; and what in it can't be meant."""
    try:
        raw = json.loads(read_regular(path))
    except FileNotFoundError:
        return SimulatedState(), ()
    except (OSError, ValueError, RecursionError) as error:
        return SimulatedState(), (f"it can't be read, and all GPUs are taken as healthy and whole: {error}",)
    if not isinstance(raw, dict):
        return SimulatedState(), ('it isn\'t {"unhealthy": {"3": "XID 79"}}, and nothing in it counts',)
    reader = _StateReader(inventory)
    for key in raw.keys() - set(_KEYS):
        reader.mistakes.append(f"{key!r} is no key: {', '.join(_KEYS)} are")
    state = SimulatedState(
        dict(reader.reasons(raw.get("unhealthy", {}))),
        dict(reader.splits(raw.get("mig", {}))),
        frozenset(reader.idle(raw.get("idle", []))),
        tuple(reader.processes(raw.get("processes", []))),
    )
    told = [mistake[:_MAX_MISTAKE_LENGTH] for mistake in reader.mistakes[:_MAX_MISTAKES]]
    if more := len(reader.mistakes) - len(told):
        told.append(f"and {more} more mistakes")
    return state, tuple(told)


def change_state(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Lets `change` alter what the file says, and writes it whole; the file need not be there.

    Raises:
        DeviceError: the file isn't what it has to be, or can't be written.
    """
    try:
        # Two who change it at once would else read the same, and the second undo what the first wrote.
        with _locked(path):
            raw = _read_to_change(path)
            change(raw)
            replace_file(path, json.dumps(raw, indent=2).encode() + b"\n", mode=0o600)
    except OSError as error:
        raise errors.DeviceError(
            f"can't write {path}: {error.strerror}", remedy="make room there, and see who may write it"
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Beside it: the file itself is replaced."""
    lock = path.with_name(f".{path.name}.lock")
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        due = time.monotonic() + _LOCK_TIMEOUT_S
        while not _lock(handle):
            if time.monotonic() > due:
                raise errors.DeviceError(
                    f"{path} can't be changed: {_holder(handle)} has held {lock} for {_LOCK_TIMEOUT_S:.0f} s",
                    remedy="end that process, or let it go on (kill -CONT) where it is stopped",
                )
            time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(handle: int) -> str:
    """Whose lock it is, as the kernel says: `pid 4711 (gpuyard)`."""
    inode = os.fstat(handle).st_ino
    with suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            # `1: FLOCK ADVISORY WRITE 4711 fd:01:1234 0 EOF`; who waits has an arrow in the second place.
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
                return f"pid {fields[4]} ({Path(f'/proc/{fields[4]}/comm').read_text().strip()})"
    return "another process"


def write_splits(path: Path, plans: Iterable[GpuPlan]) -> None:
    """Splits simulated GPUs as the plans say.

    Raises:
        DeviceError: see `change_state`.
    """

    def put(raw: dict[str, Any]) -> None:
        splits = raw.setdefault("mig", {})
        for plan in plans:
            gpu = plan.gpu
            for name in (str(gpu.index), gpu.uuid):
                splits.pop(name, None)
            enabled = gpu.mig is not None and gpu.mig.enabled if plan.mode is None else plan.mode
            if enabled:
                kept = [f"{part.profile}@{part.start}" for part in plan.keep]
                splits[str(gpu.index)] = kept + list(map(str, plan.create))

    change_state(path, put)


def _read_to_change(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(read_regular(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(raw, dict) or any(not isinstance(raw.get(key, {}), dict) for key in _KEYS[:2]):
        raise _unreadable(path, 'it isn\'t {"unhealthy": {"3": "XID 79"}}')
    return raw


def _unreadable(path: Path, why: str) -> errors.DeviceError:
    return errors.DeviceError(
        f"can't read {path}: {why}", remedy="mend it, or remove it: all GPUs are healthy and whole then"
    )


class _StateReader:
    """Reads the parts of the file, and gathers what is wrong."""

    def __init__(self, inventory: Inventory) -> None:
        self._gpus = {name: gpu for gpu in inventory.devices for name in (gpu.uuid, str(gpu.index))}
        self._last = len(inventory.devices) - 1
        self.mistakes: list[str] = []

    def reasons(self, raw: Any) -> Iterator[tuple[str, str]]:
        for name, gpu, why in self._by_gpu("unhealthy", raw, '{"3": "XID 79"}'):
            if _is_text(why) and why.strip():
                yield gpu.uuid, why[:_MAX_REASON_LENGTH]
            else:
                self.mistakes.append(
                    f"GPU {name} stays healthy: its reason must be text, such as XID 79, not {why!r}"
                )

    def splits(self, raw: Any) -> Iterator[tuple[str, Mig]]:
        for name, gpu, parts in self._by_gpu("mig", raw, '{"0": ["3g.40gb@0"]}'):
            if gpu.mig is None:
                self.mistakes.append(f"GPU {name} stays whole: a {gpu.model or 'GPU'} can't be split")
            elif not isinstance(parts, list):
                self.mistakes.append(
                    f"GPU {name} stays whole: its parts must be a list such as "
                    f'["3g.40gb@0", "3g.40gb@4"], not {parts!r}'
                )
            else:
                mig, mistakes = split(gpu, parts)
                self.mistakes += [f"GPU {name}: {each}" for each in mistakes]
                yield gpu.uuid, mig

    def idle(self, raw: Any) -> Iterator[str]:
        if not isinstance(raw, list):
            self.mistakes.append('idle isn\'t a list of GPUs such as ["0"]')
            return
        for name in raw:
            if isinstance(name, str) and name in self._gpus:
                yield self._gpus[name].uuid
            else:
                self.mistakes.append(f"idle: there is no GPU {name!r}")

    def processes(self, raw: Any) -> Iterator[SimulatedProcess]:
        if not isinstance(raw, list):
            self.mistakes.append('processes isn\'t [{"gpu": "3", "pid": 4711, "memory_mib": 21504}]')
            return
        for place, one in enumerate(raw):
            process = self._process(one) if isinstance(one, dict) else None
            if process is None:
                self.mistakes.append(
                    f'process {place} isn\'t {{"gpu": "3", "pid": 4711, "memory_mib": 21504}} of a GPU that'
                    f" is there, with texts user and command: {one!r}"
                )
            else:
                yield process

    def _process(self, raw: dict[str, Any]) -> SimulatedProcess | None:
        gpu = self._gpus.get(str(raw.get("gpu")))
        pid, memory_mib = raw.get("pid"), raw.get("memory_mib", 0)
        texts = [raw.get(name, "") for name in ("user", "command")]
        if (
            gpu is None
            or type(pid) is not int
            or type(memory_mib) is not int
            or not all(map(_is_text, texts))
        ):
            return None
        if not (0 < pid <= _MAX_PID and 0 <= memory_mib <= _MAX_MEMORY_MIB):
            return None
        return SimulatedProcess(gpu.uuid, pid, memory_mib, *texts)

    def _by_gpu(self, key: str, raw: Any, example: str) -> Iterator[tuple[str, Device, Any]]:
        if not isinstance(raw, dict):
            self.mistakes.append(f"{key} isn't {example}")
            return
        for name, value in raw.items():
            if name in self._gpus:
                yield name, self._gpus[name], value
            else:
                self.mistakes.append(
                    f"there is no GPU {name!r}: write an index from 0 to {self._last}, or a UUID"
                )


def _is_text(raw: Any) -> bool:
    """Whether it can be sent as one: JSON has escapes for halves of characters."""
    return isinstance(raw, str) and not any("\ud800" <= letter <= "\udfff" for letter in raw)
