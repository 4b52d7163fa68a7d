"""A run of which all is decided: the one value that `render` makes manifests from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
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


class Scaler(StrEnum):
    """Who gives a service as many replicas as its load needs."""

    #: The yard's autoscaler, by what its proxy and its GPUs say.
    YARD = "yard"
    #: A cluster's HorizontalPodAutoscaler, by what a metrics adapter serves for pods.
    ADAPTER = "adapter"
    #: KEDA, by what Prometheus answers.
    KEDA = "KEDA"


@dataclass(frozen=True)
class ResolvedService:
    """The part of a `ResolvedRun` that only services have.

    Attributes:
        leave_s: how long a replica goes on as ever after it was told to end, so that nobody sends it requests
            any more once it is told for real; 0 where the cluster knows no such thing.
        max_surge, max_unavailable: of an update, as Kubernetes writes them.
        scaler: of a service whose load decides; None for a fixed number.
        metric: the name that an adapter serves for pods, where it isn't the yard's.
        prometheus: the address that KEDA asks.
    """

    leave_s: int
    max_surge: int | str = 1
    max_unavailable: int | str = 0
    scaler: Scaler | None = None
    metric: str = ""
    prometheus: str = ""


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
        service: what was decided for a service where it goes; None for a run, and before that.
        spec_folder: of a service, that the paths of its spec start from.
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
    service: ResolvedService | None = None
    spec_folder: str = ""
    submitted_at: datetime | None = None

    def __post_init__(self) -> None:
        """Raises ValueError unless the run is a host's process or in an image."""
        if bool(self.image) == (self.host is not None):
            raise ValueError("a run is in an image, or has the context of its host")
