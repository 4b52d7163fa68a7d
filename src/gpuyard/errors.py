"""Every error that gpuyard raises on purpose, in one tree.

    GpuyardError
    ├── UsageError                  the command or its input is wrong; exit code 2
    │   ├── SpecError               every problem of one spec at once, each with its line and path
    │   └── ImageReferenceError     a text that should name an image doesn't
    ├── ApiError                    a Kubernetes API said no; carries the Status
    │   ├── BadRequest 400, Unauthorized 401, Forbidden 403, NotFound 404, MethodNotAllowed 405,
    │   ├── NotAcceptable 406, AlreadyExists 409, Conflict 409, Gone 410, TooLarge 413,
    │   ├── UnsupportedMediaType 415, Invalid 422, TooManyRequests 429, InternalError 500,
    │   └── ServiceUnavailable 503, Timeout 504, StorageFull 507
    ├── ConnectionFailed            no API answers at the address
    │   └── Stalled                 one began to, or took the request, and says nothing any more
    ├── ElectionError               who leads no longer can't stop what it does
    ├── YardError                   the local yard can't start, stop or be found
    │   ├── YardStopped, YardBusy, VersionMismatch
    ├── StoreError                  the yard's database
    │   ├── StoreFull, StoreDamaged, StoreLocked, StoreTooNew, StoreUnwritable
    ├── ImageError                  an image can't be read, built or stored
    │   ├── RegistryError           a registry refuses, fails or doesn't answer
    │   │   ├── RegistryUnavailable no answer, a cut connection, or a failure that passes
    │   │   ├── ImageUnauthorized   it wants (other) credentials, or these may not do that
    │   │   ├── UploadLost          what was uploaded so far is gone: begin the blob again
    │   │   └── BlobsMissing        it lacks what a manifest names
    │   ├── ImageNotFound           no such repository, tag, manifest or blob
    │   ├── ImageDamaged            content that isn't what its digest or its format says
    │   ├── LayoutError             an OCI layout's folder or archive can't be read or written
    │   ├── BuildError              an image can't be made from what it was to be made from
    │   │   └── ResolveError        no set of wheels meets the requirements on this base
    │   └── CacheError              the build's cache can't be written
    ├── DeviceError                 the GPUs of this node, or the plugin that owns them
    │   ├── DriverGone              the GPUs' driver doesn't work any more: it has to be started anew
    │   ├── DriverHangs             a call into the GPUs' driver doesn't come back
    │   ├── CheckpointError         who has which device can't be written down (yet)
    │   ├── GpuHeld                 another yard of this machine has the GPU
    │   └── CdiFolderGone           this process's CDI folder isn't the node's any more
    └── ProcessError                a pod's process can't be started or found again
        ├── StartError              this one can't be started on this host as it is asked for
        ├── MountError              what a volume is to hold isn't there (yet), or can't be written
        └── ContainerConfigError    what its environment refers to isn't there (yet)

A message says what failed and where; `remedy` says what would mend it. Both are printed without a
traceback. Secrets never go into either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class GpuyardError(Exception):
    """Base of all: a message, an optional remedy, and the exit code a command ends with."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        if remedy:
            # Who calls us from Python sees it below the traceback.
            self.add_note(remedy)

    @property
    def in_one_line(self) -> str:
        """Message and remedy, where there is room for one text only."""
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class UsageError(GpuyardError):
    """The command line or a file that it names is wrong; nothing was submitted."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a spec: where (line is 1-based, 0 when unknown), and what."""

    path: str
    message: str
    line: int = 0


class SpecError(UsageError):
    """All problems of one spec, so that a user mends them in one go."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        rows = [
            f"  {source}:{p.line}: {p.path}: {p.message}" if p.line else f"  {p.path}: {p.message}"
            for p in self.problems
        ]
        count = "1 problem" if len(rows) == 1 else f"{len(rows)} problems"
        super().__init__(f"{source} has {count}:\n" + "\n".join(rows))


class ImageReferenceError(UsageError):
    """A text that should name an image doesn't."""


class ApiError(GpuyardError):
    """An answer of a Kubernetes API other than success.

    Attributes:
        code: HTTP status.
        reason: `Status.reason` (machine-readable, PascalCase).
        details: `Status.details` as sent, or empty.
    """

    code = 500
    reason = "InternalError"

    def __init__(self, message: str, *, details: Mapping[str, Any] | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.details: Mapping[str, Any] = details or {}


class BadRequest(ApiError):
    """The request can't be understood."""

    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    """No valid credentials."""

    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    """Understood, and refused."""

    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    """No such object or no such resource."""

    code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    """The resource exists and doesn't know this verb."""

    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    """No media type that the client accepts is served."""

    code, reason = 406, "NotAcceptable"


class AlreadyExists(ApiError):
    """The name is taken."""

    code, reason = 409, "AlreadyExists"


class Conflict(ApiError):
    """The object changed since it was read: read it again and retry."""

    code, reason = 409, "Conflict"


class Gone(ApiError):
    """The asked-for resourceVersion is compacted: list again."""

    code, reason = 410, "Expired"


class TooLarge(ApiError):
    """The object or request is over the limit."""

    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    """The body's media type isn't served."""

    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    """The object breaks a rule; details.causes name the field paths."""

    code, reason = 422, "Invalid"


class TooManyRequests(ApiError):
    """Try again later."""

    code, reason = 429, "TooManyRequests"


class InternalError(ApiError):
    """The server failed."""


class ServiceUnavailable(ApiError):
    """The server can't answer now."""

    code, reason = 503, "ServiceUnavailable"


class Timeout(ApiError):
    """The server gave up waiting; the request may have had no effect."""

    code, reason = 504, "Timeout"


class StorageFull(ApiError):
    """The server's disk is full; nothing was written."""

    code, reason = 507, "InsufficientStorage"


class ConnectionFailed(GpuyardError):
    """No API answers at the address."""


class Stalled(ConnectionFailed):
    """An API took the request and has said nothing for as long as we wait."""


class ElectionError(GpuyardError):
    """A candidate that has lost its Lease still does the leader's work."""


class YardError(GpuyardError):
    """The local yard can't start, stop or be found."""


class YardStopped(YardError):
    """The command needs a running yard and doesn't start one."""


class YardBusy(YardError):
    """Another daemon owns this data folder."""


class VersionMismatch(YardError):
    """The daemon is of another release than this command."""


class StoreError(GpuyardError):
    """The yard's database can't do what was asked."""


class StoreFull(StoreError):
    """No space left; the write was not acknowledged and is not there."""


class StoreDamaged(StoreError):
    """The database file is not readable as one."""


class StoreLocked(StoreError):
    """Another process holds the data folder."""


class StoreTooNew(StoreError):
    """A later release wrote this database."""


class StoreUnwritable(StoreError):
    """No permission to write the data folder."""


class ImageError(GpuyardError):
    """An image can't be read, built or stored."""


class RegistryError(ImageError):
    """A registry refuses a request, fails, or doesn't answer."""


class RegistryUnavailable(RegistryError):
    """The registry gives no answer, cuts connections, or fails in a way that passes.

    Attributes:
        retry_after: how long it asks to wait, as its header says it; empty where it doesn't.
    """

    def __init__(self, message: str, *, remedy: str = "", retry_after: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class UploadLost(RegistryError):
    """What was uploaded of a blob so far is gone or unknown; only its beginning again helps."""


class BlobsMissing(RegistryError):
    """The registry takes no manifest of what it doesn't have; it may have had it."""


class ImageUnauthorized(RegistryError):
    """The registry wants credentials, or those given don't allow it."""


class ImageNotFound(ImageError):
    """No such repository, tag, manifest or blob."""


class ImageDamaged(ImageError):
    """Content isn't what its digest or its format says."""


class LayoutError(ImageError):
    """An OCI layout's folder or archive can't be read or written."""


class BuildError(ImageError):
    """An image can't be made from this base, these requirements or these files."""


class ResolveError(BuildError):
    """No set of wheels meets the requirements for the base's Python and platform."""


class CacheError(ImageError):
    """The build's cache can't be written: no space, or no permission."""


class DeviceError(GpuyardError):
    """The GPUs of this node, or the plugin that owns them, can't do what was asked."""


class DriverGone(DeviceError):
    """The GPUs' driver worked, and doesn't any more for any GPU: it has to be started anew."""


class DriverHangs(DeviceError):
    """A call into the GPUs' driver doesn't come back."""


class CheckpointError(DeviceError):
    """Who has which device can't be written down (yet), as on a full disk; nothing was assigned."""


class GpuHeld(DeviceError):
    """Another yard of this machine has the GPU.

    Attributes:
        gpu: its UUID.
    """

    def __init__(self, gpu: str, owner: str) -> None:
        super().__init__(f"GPU {gpu} is held by {owner}", remedy="wait until it is released, or ask its user")
        self.gpu = gpu


class CdiFolderGone(DeviceError):
    """The CDI folder that this process sees isn't the one that its path names on the node any more."""


class ProcessError(GpuyardError):
    """A pod's process can't be started, signalled or found again."""


class StartError(ProcessError):
    """A process can't be started as it is asked for, and nothing of it runs.

    Attributes:
        code: exit code to report, as a shell would: 127 no such program, 126 not executable, else 128.
    """

    def __init__(self, message: str, *, code: int = 128, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


class MountError(ProcessError):
    """What a volume is to hold isn't there (yet), or can't be written."""


class ContainerConfigError(ProcessError):
    """A ConfigMap, Secret, key or field that a container's environment refers to isn't there (yet)."""
