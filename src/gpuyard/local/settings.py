"""What `gpuyard up` was told, kept for the next start, and what the running daemon tells about itself."""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from gpuyard import errors
from gpuyard.regular_files import read_regular

_HIGHEST_PORT = 65_535
#: What JSON of another shape makes of the reading.
_WRONG = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Settings:
    """Choices that outlive the daemon.

    Attributes:
        simulate: GPUs to simulate, such as "H100:8", or of several nodes "H100:8,A100:4"; empty for the
            machine's own.
        port: of the HTTPS API on 127.0.0.1; 0 until the first start has picked a free one.
        mig_strategy: how parts of GPUs are offered: none, single or mixed.
        gpu_config: the agent's configuration, as JSON; empty for none.
        share_with_others: whether runs get GPUs that foreign processes are on.
        gpu_backend: a Python module that finds another vendor's GPUs; empty for none.
    """

    simulate: str = ""
    port: int = 0
    mig_strategy: str = "none"
    gpu_config: str = ""
    share_with_others: bool = False
    gpu_backend: str = ""

    def chosen(self, choices: Choices) -> Settings:
        """These settings with what this start was told."""
        told = {name: value for name, value in asdict(choices).items() if value is not None}
        return replace(self, **told)


@dataclass(frozen=True)
class Choices:
    """What one start is told of the settings; None keeps what is chosen already."""

    simulate: str | None = None
    port: int | None = None
    mig_strategy: str | None = None
    gpu_config: str | None = None
    share_with_others: bool | None = None
    gpu_backend: str | None = None

    def arguments(self) -> list[str]:
        """As the daemon's command line has them: `--mig-strategy=mixed`."""
        told = {name: value for name, value in asdict(self).items() if value is not None}
        return [f"--{name.replace('_', '-')}={value}" for name, value in told.items()]


@dataclass(frozen=True)
class RunningYard:
    """What a live daemon writes into its runtime folder.

    Attributes:
        api: URL of the HTTPS API.
        agent_pid: of the first node; 0 while the agent isn't running.
        node: the first node.
        set_aside: objects that were in the store and can't be read, each with what is wrong with it.
        further_agents: the pid of each further node's agent by the node's name, in order.
    """

    daemon_pid: int
    agent_pid: int
    api: str
    node: str
    version: str
    started_at: str
    set_aside: tuple[str, ...] = ()
    further_agents: Mapping[str, int] = field(default_factory=dict)

    @property
    def agents(self) -> dict[str, int]:
        """The pid of each node's agent, in order; 0 while it isn't running."""
        return {self.node: self.agent_pid, **self.further_agents}

    def number_of(self, node: str) -> int:
        """Which of the yard's nodes this is, counted from 1; the only one where no name is given.

        Raises:
            UsageError: it has no such node, or several, and none is named.
        """
        names = list(self.agents)
        if not node and len(names) == 1:
            return 1
        if node in names:
            return names.index(node) + 1
        raise errors.UsageError(
            f"this yard has no node {node!r}" if node else f"this yard has {len(names)} nodes",
            remedy=f"name one of {', '.join(names)}",
        )


def load_settings(file: Path) -> Settings:
    """The settings kept, or the defaults.

    Raises:
        YardError: the file isn't what `save_settings` wrote.
    """
    try:
        raw = json.loads(read_regular(file))
        settings = Settings(
            simulate=str(raw.get("simulate", "")),
            port=int(raw.get("port", 0)),
            mig_strategy=str(raw.get("mig_strategy", "none")),
            gpu_config=str(raw.get("gpu_config", "")),
            share_with_others=raw.get("share_with_others") is True,
            gpu_backend=str(raw.get("gpu_backend", "")),
        )
        if not 0 <= settings.port <= _HIGHEST_PORT:
            raise ValueError(f"{settings.port} is no port")
        return settings
    except FileNotFoundError:
        return Settings()
    except (OSError, *_WRONG) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise errors.YardError(
            f"the settings in {file} can't be read: {why}",
            remedy=f"remove {file} and say `gpuyard up` again",
        ) from error


def save_settings(file: Path, settings: Settings) -> None:
    """Writes them so that a crash leaves either the old or the new ones."""
    write_private(file, json.dumps(asdict(settings), indent=2) + "\n")


def load_running(file: Path) -> RunningYard | None:
    """What the daemon last said, or None when it never started or left cleanly."""
    try:
        running = RunningYard(**json.loads(read_regular(file)))
        further = {str(name): int(pid) for name, pid in running.further_agents.items()}
        return replace(running, set_aside=tuple(map(str, running.set_aside)), further_agents=further)
    except (OSError, *_WRONG):
        return None


def save_running(file: Path, running: RunningYard) -> None:
    """Says it."""
    write_private(file, json.dumps(asdict(running)))


def write_private(file: Path, text: str) -> None:
    """Replaces a file's text atomically, mode 0600. One that says it already is left alone, so that a yard
    starts on a full disk, too.

    Raises:
        StoreFull, StoreUnwritable: it can't be written; the old text is untouched.
    """
    from gpuyard.atomic_files import replace_file  # Commands that only read need it not.

    if _says(file, text):
        return
    try:
        replace_file(file, text.encode(), mode=0o600)
    except OSError as error:
        kind = errors.StoreFull if error.errno == errno.ENOSPC else errors.StoreUnwritable
        raise kind(
            f"can't write {file}: {error.strerror}", remedy="free some space or mend the permissions"
        ) from error


def _says(file: Path, text: str) -> bool:
    try:
        # Its mode first: what is no file isn't opened.
        is_private = file.lstat().st_mode & 0o177777 == stat.S_IFREG | 0o600
        return is_private and read_regular(file) == text.encode()
    except OSError:
        return False
