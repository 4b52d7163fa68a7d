"""Where a pod's files are: `pods/UID/CONTAINER/ATTEMPT/`, `pods/UID/volumes/NAME`, `pods/UID/pod.json`.

    journal, log, tmp   of one start of a container, see `runtime`
    exec-DAEMON-N       while a client has a command open in it
    pod.json            what is needed of a pod when the API no longer has it

Container names are RFC 1123 labels; `volumes.d` is none, so no container's folder meets the volumes'.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.atomic_files import replace_file
from gpuyard.local.runtime.removal import remove_tree
from gpuyard.regular_files import open_regular

_VOLUMES = "volumes.d"
_RECORD = "pod.json"


@dataclass(frozen=True)
class PodRecord:
    """What outlives the daemon besides the processes.

    Attributes:
        master_port: the port that its processes were given.
        node: that it was on; empty in the record of an older release.
        ports: that stand in for its containerPorts; none in the record of an older release.
    """

    namespace: str
    name: str
    master_port: int
    node: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class VolumeFile:
    """A file of a volume: where below the volume's folder, what is in it, and its permissions."""

    path: str
    content: bytes
    mode: int


@dataclass(frozen=True)
class PodFolder:
    """Paths of one pod."""

    path: Path

    @property
    def volumes(self) -> Path:
        """One folder per volume."""
        return self.path / _VOLUMES

    def attempt(self, container: str, number: int) -> Path:
        """The folder of one start."""
        return self.path / container / str(number)

    def start_name(self, container: str, number: int) -> str:
        """What one start is called, unique on this host."""
        return f"{self.path.name}_{container}_{number}"

    def attempts(self, container: str) -> list[int]:
        """Numbers of the starts that are kept, in order."""
        try:
            names = [entry.name for entry in (self.path / container).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(int(name) for name in names if name.isdecimal())

    def containers(self) -> list[str]:
        """Containers that were started."""
        if not self.path.is_dir():
            return []
        return sorted(e.name for e in self.path.iterdir() if e.is_dir() and e.name != _VOLUMES)

    def write_record(self, record: PodRecord) -> None:
        """Makes the folder and keeps the record.

        Raises:
            ProcessError: it can't be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # After a crash of the host there is nothing to adopt, and a pod starts the faster without a sync.
            content = json.dumps(asdict(record)).encode()
            replace_file(self.path / _RECORD, content, mode=0o600, durable=False)
        except OSError as error:
            raise errors.ProcessError(
                f"can't write {self.path}: {error.strerror}",
                remedy="free space on its disk, or mend its permissions",
            ) from error

    def read_record(self) -> PodRecord | None:
        """The record; None when there is none that can be read."""
        try:
            with os.fdopen(open_regular(self.path / _RECORD), "rb") as file:
                raw: Mapping[str, Any] = json.load(file)
            port, node = int(str(raw["master_port"])), str(raw.get("node", ""))
            ports = {str(name): int(port) for name, port in raw.get("ports", {}).items()}
            return PodRecord(str(raw["namespace"]), str(raw["name"]), port, node, ports)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    @property
    def node(self) -> str:
        """That the pod was on; empty where that isn't known."""
        record = self.read_record()
        return record.node if record else ""

    def make_volume(self, name: str) -> None:
        """Makes a volume's folder, unless it is there.

        Raises:
            ProcessError: it can't be made.
        """
        folder = self.volumes / name
        try:
            folder.mkdir(parents=True)
            folder.chmod(0o777)
        except FileExistsError:
            return
        except OSError as error:
            raise errors.ProcessError(f"can't make {folder}: {error.strerror}") from error

    def write_volume(self, name: str, files: Iterable[VolumeFile]) -> None:
        """Makes a volume's folder with these files in it, and no others.

        Raises:
            MountError: it can't be written.
        """
        folder = self.volumes / name
        remove_tree(folder)
        try:
            _make_readable(folder)
            for file in files:
                path = folder / file.path
                for parent in reversed(path.relative_to(folder).parents):
                    _make_readable(folder / parent)
                path.write_bytes(file.content)
                path.chmod(file.mode)
        except OSError as error:
            raise errors.MountError(f"can't write volume {name} ({folder}): {error.strerror}") from error

    def replace_file(self, volume: str, file: VolumeFile) -> None:
        """Puts a file of a volume in the place of the one that is there, whole or not at all.

        Raises:
            MountError: it can't be written.
        """
        path = self.volumes / volume / file.path
        try:
            replace_file(path, file.content, mode=file.mode, durable=False)
        except OSError as error:
            raise errors.MountError(f"can't write volume {volume} ({path}): {error.strerror}") from error

    def remove_attempt(self, container: str, number: int) -> None:
        """Removes one start's files."""
        remove_tree(self.attempt(container, number))

    def remove_volumes(self) -> None:
        """Removes what the pod wrote into its volumes."""
        remove_tree(self.volumes)

    def remove(self) -> None:
        """Removes everything."""
        remove_tree(self.path)


def pod_folders(pods_dir: Path) -> dict[str, PodFolder]:
    """The folders that are there, by pod uid."""
    if not pods_dir.is_dir():
        return {}
    return {entry.name: PodFolder(entry) for entry in pods_dir.iterdir() if entry.is_dir()}


def _make_readable(folder: Path) -> None:
    """Makes a folder that every user may look into, whatever the umask."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
