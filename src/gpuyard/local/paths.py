"""Where a yard keeps its data and its sockets, and who may read them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors

#: A socket's path has 107 bytes; the longest names below a runtime folder take these.
_LONGEST_RUNTIME_DIR_BYTES = 107 - len("/16/device-plugins/") - 32
#: Of `atomic_files.PREFIX`, which every command would load.
_UNFINISHED = "gpuyard-new-"
#: Entries of the data folder.
_OWN = {
    "context.json",
    "daemon.log",
    "devices.json",
    "hosts",
    "kubeconfig",
    "lock",
    "nodes",
    "pki",
    "pods",
    "run",
    "services",
    "settings.json",
    "simulated-health.json",
    "snapshots",
    "starting",
    "store.db",
    "token",
    "volumes",
}
_ELSEWHERE = "or set GPUYARD_HOME to a folder of your own with a short path"


@dataclass(frozen=True)
class NodePaths:
    """Paths of what belongs to one node of a yard: its kubelet's devices and its agent.

    Attributes:
        data_dir: outlives the yard.
        runtime_dir: sockets, and what is known only while the yard runs.
    """

    data_dir: Path
    runtime_dir: Path

    @property
    def device_checkpoint(self) -> Path:
        """Which container has which devices."""
        return self.data_dir / "devices.json"

    @property
    def device_plugins_dir(self) -> Path:
        """The kubelet's Registration socket and the plugins' own."""
        return self.runtime_dir / "device-plugins"

    @property
    def cdi_dir(self) -> Path:
        """The agent's CDI spec: which device nodes stand behind a GPU's name."""
        return self.runtime_dir / "cdi"

    @property
    def marks_file(self) -> Path:
        """What the agent wants written on the node."""
        return self.runtime_dir / "marks.json"

    @property
    def use_file(self) -> Path:
        """What pods have used of the GPUs, until it is written onto them."""
        return self.runtime_dir / "gpu-use.json"

    @property
    def metrics_socket(self) -> Path:
        """The exporter's, which the API's /metrics asks."""
        return self.runtime_dir / "metrics.sock"

    @property
    def simulated_health(self) -> Path:
        """Which simulated GPUs are unhealthy, for tests: see `devices.simulated.watch`."""
        return self.data_dir / "simulated-health.json"

    @property
    def pod_resources_socket(self) -> Path:
        """PodResources v1."""
        return self.runtime_dir / "pod-resources" / "kubelet.sock"


@dataclass(frozen=True)
class YardPaths(NodePaths):
    """Every path of one yard. Folders are made 0700; what is secret inside is 0600 on top.

    Its folders are those of its first node as well; further nodes have theirs below, see `of_node`.

    Attributes:
        data_dir: the database, credentials, logs; outlives the yard.
        runtime_dir: sockets only; short, since a socket's path has at most 107 bytes.
    """

    @property
    def database(self) -> Path:
        """SQLite file of the store."""
        return self.data_dir / "store.db"

    @property
    def lock(self) -> Path:
        """Held by the daemon for as long as it lives; its text is the daemon's pid."""
        return self.data_dir / "lock"

    @property
    def starting(self) -> Path:
        """Held by the command that starts the daemon; nobody else may lock it, as they may the folder."""
        return self.data_dir / "starting"

    @property
    def settings(self) -> Path:
        """What `up` was told, kept for the next start."""
        return self.data_dir / "settings.json"

    @property
    def pki_dir(self) -> Path:
        """CA, server certificate and their keys."""
        return self.data_dir / "pki"

    @property
    def token(self) -> Path:
        """The bearer token."""
        return self.data_dir / "token"

    @property
    def kubeconfig(self) -> Path:
        """What kubectl reads."""
        return self.data_dir / "kubeconfig"

    @property
    def daemon_log(self) -> Path:
        """Standard output and error of the daemon and its agent."""
        return self.data_dir / "daemon.log"

    @property
    def pods_dir(self) -> Path:
        """One folder per pod uid: logs, exit codes, process identities."""
        return self.data_dir / "pods"

    @property
    def snapshots_dir(self) -> Path:
        """One folder per run that was submitted with a snapshot of its code."""
        return self.data_dir / "snapshots"

    @property
    def hosts_dir(self) -> Path:
        """Hosts files of pods that have names for one another."""
        return self.data_dir / "hosts"

    @property
    def services_dir(self) -> Path:
        """One file per Service with an address, which its proxy holds: see `proxy_process`."""
        return self.data_dir / "services"

    @property
    def volumes_dir(self) -> Path:
        """One folder per PersistentVolume that was made for a claim."""
        return self.data_dir / "volumes"

    @property
    def running(self) -> Path:
        """What the live daemon says of itself."""
        return self.runtime_dir / "yard.json"

    @property
    def api_socket(self) -> Path:
        """The API for our own client."""
        return self.runtime_dir / "api.sock"

    @property
    def locks_dir(self) -> Path:
        """Locks of simulated GPUs, which no other yard has."""
        return self.runtime_dir / "locks"

    @property
    def nodes_dir(self) -> Path:
        """One folder per node but the first, called by its number."""
        return self.data_dir / "nodes"

    def is_own(self, name: str) -> bool:
        """Whether an entry of the data folder is the yard's: the user may have made the folder for more.

        Beside a file there may be others of its name: locks, SQLite's, and what isn't whole yet.
        """
        beginnings = (f"{own}{end}" for own in _OWN for end in ".-")
        return name in _OWN or name.removeprefix(".").startswith((_UNFINISHED, *beginnings))

    def of_node(self, number: int) -> NodePaths:
        """Those of the yard's nth node, counted from 1."""
        if number == 1:
            return self
        return NodePaths(self.nodes_dir / str(number), self.runtime_dir / str(number))

    def make_folders(self, nodes: int = 1) -> None:
        """Makes every folder, mode 0700.

        The data folder itself keeps the mode that it has: it may be one that the user made for more.

        Args:
            nodes: so many of them have folders.

        Raises:
            StoreUnwritable: no permission, or a folder belongs to somebody else.
        """
        _make_folder(self.data_dir, private=False)
        runtime = (self.runtime_dir.parent, self.runtime_dir, self.locks_dir)
        kept = (self.pki_dir, self.pods_dir, self.services_dir, self.snapshots_dir, self.volumes_dir)
        for folder in (*runtime, *kept):
            _make_folder(folder, private=True)
        for node in map(self.of_node, range(1, nodes + 1)):
            if node is not self:
                for folder in (self.nodes_dir, node.data_dir, node.runtime_dir):
                    _make_folder(folder, private=True)
            _make_folder(node.device_plugins_dir, private=True)
            _make_folder(node.pod_resources_socket.parent, private=True)

    def check_runtime_dir(self) -> None:
        """Refuses to look into a runtime folder that somebody else could have filled; it may be missing.

        Raises:
            YardError: it or its parent isn't a folder of this user's alone.
        """
        for folder in (self.runtime_dir.parent, self.runtime_dir):
            if problem := _not_ours_alone(folder):
                raise errors.YardError(
                    f"{folder} {problem}: what answers there may not be your yard",
                    remedy=f"remove it, or make it yours alone (chmod 700); {_ELSEWHERE}",
                )


def find_paths(environ: Mapping[str, str], *, tmp: Path = Path("/tmp")) -> YardPaths:
    """`$GPUYARD_HOME`, else `$XDG_DATA_HOME/gpuyard`, else `~/.local/share/gpuyard`; sockets below `tmp`."""
    if home := environ.get("GPUYARD_HOME"):
        data_dir = Path(home).expanduser().absolute()
    else:
        base = environ.get("XDG_DATA_HOME") or str(
            Path(environ.get("HOME") or "~").expanduser() / ".local/share"
        )
        data_dir = Path(base) / "gpuyard"
    return YardPaths(data_dir, _runtime_dir(data_dir, tmp))


def _runtime_dir(data_dir: Path, tmp: Path) -> Path:
    """A short folder that is the same for the same data folder, whoever asks.

    Not XDG_RUNTIME_DIR: a cron job, a login over ssh and a desktop session of one user would each look
    for the yard in another place, and it goes away when the user logs out, while runs don't.

    Where somebody else has taken our name below /tmp it is in the data folder, if that is short enough; and
    it stays there for as long as it exists, also when the name is given back meanwhile.
    """
    digest = hashlib.sha256(os.fsencode(os.path.realpath(data_dir))).hexdigest()[:10]
    usual, other = tmp / f"gpuyard-{os.getuid()}" / digest, data_dir / "run" / digest
    in_use = os.path.isdir(other)  # noqa: PTH112 - that of Path raises where one may not look
    return other if in_use or (_not_ours(usual.parent) and _is_short(other)) else usual


def _is_short(folder: Path) -> bool:
    return len(os.fsencode(folder)) <= _LONGEST_RUNTIME_DIR_BYTES


def _not_ours(folder: Path) -> str:
    """Why a folder can't be this user's; empty when it is, and when it isn't there."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"can't be looked at ({error.strerror})"
    if not stat.S_ISDIR(status.st_mode):
        return "isn't a folder"
    return "" if status.st_uid == os.getuid() else "belongs to another user"


def _not_ours_alone(folder: Path) -> str:
    """As `_not_ours`, and others have no rights in it."""
    if problem := _not_ours(folder):
        return problem
    try:
        return "is open to others" if folder.lstat().st_mode & 0o077 else ""
    except FileNotFoundError:
        return ""


def _make_folder(folder: Path, *, private: bool) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not private:
            return
        # Under /tmp anybody may have made the folder first.
        if problem := _not_ours(folder):
            raise errors.StoreUnwritable(f"{folder} {problem}", remedy=f"remove it, {_ELSEWHERE}")
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise errors.StoreUnwritable(
            f"can't make the folder {folder}: {error.strerror}",
            remedy="set GPUYARD_HOME to a folder that you may write",
        ) from error
