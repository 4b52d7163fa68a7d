"""A run of which all is decided: the one value that `render` makes manifests from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from gpuyard.workloads.spec.run_spec import RunSpec


@dataclass(frozen=True)
class CodeSnapshot:
    """A copy of the code that a run goes on with, whatever becomes of the original.

    Attributes:
        source: the folder that is copied, the whole repository.
        target: the copy.
        submit_dir: the folder that the run was submitted from.
    """

    source: PurePosixPath
    target: PurePosixPath
    submit_dir: str


@dataclass(frozen=True)
class HostContext:
    """What a host process takes over from the shell that submits it.

    Attributes:
        python: absolute path of the interpreter, shims resolved.
        workdir: absolute path.
        path, home, user, lang: of the shell; an empty one isn't passed on.
        virtual_env: VIRTUAL_ENV, empty when the interpreter isn't that environment's.
        snapshot: that `workdir` lies in; None for the original.
        pythonpath: PYTHONPATH of the shell. It isn't passed on, only noted.
    """

    python: str
    workdir: str
    path: str
    home: str
    user: str
    lang: str = ""
    virtual_env: str = ""
    pythonpath: str = ""
    snapshot: CodeSnapshot | None = None

    @property
    def search_path(self) -> str:
        """The PATH of a host process: the interpreter's folder, then the shell's."""
        folders = [str(PurePosixPath(self.python).parent), *self.path.split(":")]
        return ":".join(dict.fromkeys(folder for folder in folders if folder))


@dataclass(frozen=True)
class Script:
    """A script of the machine that submits.

    Attributes:
        path: as the run names it.
        text: what is in it.
    """

    path: str
    text: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class ResolvedRun:
    """A run with all that was decided for it.

    Attributes:
        spec: what its user wants.
        name: the spec's, or a generated one.
        namespace: where its objects are to live.
        host: the submitting shell, for a process of the yard's host; None for a run in an image.
        image: as nodes pull it; empty for a process.
        entrypoint: of the image, where that is known and is gpuyard's launcher, maybe behind a wrapper.
        script: goes with the run to its image; None where the image has all.
        launcher: its files, name and text, for an image that has none; the first is the one that is started.
        excluded_nodes: a node selector requirement that keeps the run off nodes where it wouldn't run.
        is_queued: a queue lets it run, and may take its place away again: it suspends the Job.
        has_pod_group: the cluster's scheduler starts its pods together or not at all.
        submitted_at: in UTC; None as long as nothing is sent.
    """

    spec: RunSpec
    name: str
    namespace: str
    host: HostContext | None = None
    image: str = ""
    entrypoint: tuple[str, ...] = ()
    script: Script | None = None
    launcher: Mapping[str, str] = field(default_factory=dict)
    excluded_nodes: Mapping[str, Any] | None = None
    is_queued: bool = False
    has_pod_group: bool = False
    submitted_at: datetime | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless the run is a host's process or in an image."""
        if bool(self.image) == (self.host is not None):
            raise ValueError("a run is in an image, or has the context of its host")
