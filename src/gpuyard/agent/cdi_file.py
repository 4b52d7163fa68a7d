"""Our CDI spec in the folder of a container runtime: written whole, kept as it was written, and alone.

Only this folder counts: a runtime takes a device from the last of its folders that has it, which is
/var/run/cdi, whatever /etc/cdi says; two files of one folder with the same device make it resolve neither.
Source: https://github.com/cncf-tags/container-device-interface, pkg/cdi/cache.go (`refresh`).
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from gpuyard import errors
from gpuyard.agent.cdi import cdi_spec
from gpuyard.atomic_files import replace_file
from gpuyard.devices.inventory import Inventory
from gpuyard.devices.nvml.driver_files import DriverFile
from gpuyard.gpus.cdi import KIND, SPEC_FILE, CdiFault, CdiTrouble
from gpuyard.regular_files import read_regular

#: Of gpuyard before its GPUs had a kind of their own.
_EARLIER_FILE = "gpuyard-nvidia-gpu.json"
_SUFFIXES = {".json", ".yaml"}
_OF_OUR_KIND = re.compile(
    rb"""["']?kind["']?\s*:\s*["']?""" + re.escape(KIND).encode() + rb"""["']?\s*(?:[,}\n#]|\Z)"""
)
#: A spec of many GPUs has some hundred KiB. A larger file would stop the agent while it is read.
_MAX_BYTES = 4 << 20
#: What something else did to the file is told for so long.
_TOLD_FOR_S = 600.0

#: Tells whether a file was written since.
_Identity: TypeAlias = tuple[int, ...]


@dataclass
class CdiFile:
    """The spec in one folder. It isn't safe for threads.

    Args:
        folder: where container runtimes look; made where it isn't there.
        now: the time, with its zone; for people.
        steady: seconds that go on whatever the wall clock is set to.
    """

    folder: Path
    now: Callable[[], datetime]
    steady: Callable[[], float] = time.monotonic
    _names: frozenset[bytes] = frozenset()
    _content: bytes = b""
    _written: _Identity = ()
    #: Seen changed once: it may be by the next agent of this node, which is about to take over.
    _suspect: bool = False
    _fault: str = ""
    _changes: int = 0
    _change: str = ""
    _changed_at: datetime | None = None
    _changed_s: float = 0.0
    _seen: dict[str, tuple[_Identity, CdiTrouble | None]] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Of the spec."""
        return self.folder / SPEC_FILE

    def publish(self, inventory: Inventory, driver: Sequence[DriverFile] = ()) -> None:
        """Has the spec of these GPUs in the folder, whole or not at all; none when there are none.

        Args:
            inventory: the GPUs.
            driver: what their driver brings into containers.

        Raises:
            DeviceError: the folder can't be written; `look` tries again.
        """
        self._names = frozenset(gpu.uuid.encode() for gpu in inventory.devices)
        spec = json.dumps(cdi_spec(inventory, driver), indent=2)
        self._content = f"{spec}\n".encode() if self._names else b""
        self._seen.clear()
        self._write()

    def look(self) -> None:
        """Writes again what something else deleted, changed or replaced, and what couldn't be written.

        Raises:
            DeviceError: as of `publish`.
            CdiFolderGone: this process can't reach the folder any more.
        """
        if self._is_cut_off():
            raise errors.CdiFolderGone(
                f"the folder {self.folder} was removed from the node, and only a container that starts anew "
                "sees the one in its place",
                remedy="start the agent again, as its container does by itself",
            )
        # Not before: until this agent has registered, an earlier one hands over by the names in that file.
        with suppress(OSError):
            (self.folder / _EARLIER_FILE).unlink(missing_ok=True)
        if self._fault:
            self._write()
        elif self._content and (what := self._changed_by_others()):
            self._write()
            self._changes, self._change = self._changes + 1, what
            self._changed_at, self._changed_s = self.now(), self.steady()

    def remove(self) -> None:
        """Takes the spec away. Containers that run keep their GPUs; none can be started with them then."""
        self.path.unlink(missing_ok=True)
        (self.folder / _EARLIER_FILE).unlink(missing_ok=True)

    def faults(self) -> tuple[CdiFault, ...]:
        """What is wrong now, or was lately."""
        found = [CdiFault(trouble, str(self.folder / name)) for name, trouble in self._others()]
        if self._fault:
            found.append(CdiFault(CdiTrouble.UNWRITTEN, str(self.path), self._fault))
        if self._changed_at is not None and self.steady() - self._changed_s < _TOLD_FOR_S:
            times = f", {self._changes} times by now" if self._changes > 1 else ""
            detail = f"{self._change} at {self._changed_at:%H:%M} UTC{times}"
            found.append(CdiFault(CdiTrouble.REWRITTEN, str(self.path), detail))
        return tuple(found)

    def _is_cut_off(self) -> bool:
        """Whether the folder is a mount of one that was removed: nothing can be made in it."""
        try:
            return self.folder.stat().st_nlink == 0
        except OSError:
            return False

    def _write(self) -> None:
        self._fault, self._suspect = "", False
        try:
            if not self._content:
                self.remove()
                return
            # Only at first: later, whoever made the folders above makes them again, with their modes.
            self.folder.mkdir(parents=not self._written, exist_ok=True)
            if self.path.is_dir() and not self.path.is_symlink():
                # Nothing else there can't be replaced. One that isn't empty is somebody's, and stays.
                self.path.rmdir()
            # Runtimes read *.json and *.yaml: an unfinished file is neither. The host's crash empties /run.
            replace_file(self.path, self._content, mode=0o644, durable=False)
            self._written = _identity(os.lstat(self.path))
        except OSError as error:
            self._fault = error.strerror or str(error)
            raise errors.DeviceError(
                f"can't write the CDI spec {self.path}: {self._fault}",
                remedy="mend the folder's permissions, or name another with --cdi-dir",
            ) from error

    def _changed_by_others(self) -> str:
        """What something else did to the file; empty when it is as it shall be."""
        try:
            found = os.lstat(self.path)
            if _identity(found) == self._written:
                return ""
            if not stat.S_ISREG(found.st_mode):
                what = "replaced by a link" if stat.S_ISLNK(found.st_mode) else "replaced by what is no file"
            elif read_regular(self.path) == self._content and found.st_mode & 0o444 == 0o444:
                self._written = _identity(found)
                return ""
            else:
                what = "changed"
        except FileNotFoundError:
            return "deleted"
        except OSError:
            return "made unreadable"
        if not self._suspect:
            self._suspect = True
            return ""
        return what

    def _others(self) -> list[tuple[str, CdiTrouble]]:
        """Files that keep the runtime from our devices."""
        seen: dict[str, tuple[_Identity, CdiTrouble | None]] = {}
        try:
            names = {path.name for path in self.folder.iterdir() if path.suffix in _SUFFIXES} - {SPEC_FILE}
        except OSError:
            return []
        for name in sorted(names):
            try:
                found = (self.folder / name).stat()
                known = self._seen.get(name)
                if known and known[0] == _identity(found):
                    seen[name] = known
                else:
                    seen[name] = (_identity(found), self._trouble(name, found))
            except OSError:
                continue  # It is gone, or the runtime can't read it either.
        self._seen = seen
        return [(name, trouble) for name, (_, trouble) in seen.items() if trouble]

    def _trouble(self, name: str, found: os.stat_result) -> CdiTrouble | None:
        if stat.S_ISFIFO(found.st_mode):
            return CdiTrouble.PIPE
        return CdiTrouble.DUPLICATE if self._has_ours(name) else None

    def _has_ours(self, name: str) -> bool:
        # As text: most such files are in YAML and NVIDIA's, and a parser is more than the agent has room for.
        text = read_regular(self.folder / name, max_bytes=_MAX_BYTES)
        return any(uuid in text for uuid in self._names) and bool(_OF_OUR_KIND.search(text))


def _identity(found: os.stat_result) -> _Identity:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
