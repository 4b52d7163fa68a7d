"""Files and folders between this machine and a run's pod, by the tar of its image, through exec.

Nothing half is ever under its final name: both ways everything goes into a new folder beside it first.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.atomic_files import sweep, unfinished_folder
from gpuyard.client.streams.remote_command import Channel, Streams
from gpuyard.client.streams.websocket import Bytes
from gpuyard.runs.interactive.command import exec_in
from gpuyard.runs.interactive.live_pod import LivePod
from gpuyard.runs.interactive.tar_reader import TarReader
from gpuyard.runs.interactive.tar_writer import TarWriter
from gpuyard.runs.target import Target

#: Told how many bytes are done, and of how many; 0 where that isn't known.
Progress = Callable[[int, int], None]

_NO_TAR = 127
_MAX_SAID_BYTES = 4000
#: GNU tar's code for a file that changed while it was read.
_CHANGED = 1

# Arguments: the path, its folder, its name there. GNU tar writes 10 kB at a time unless it is told.
_SEND_SCRIPT = """\
command -v tar >/dev/null || exit 127
many="-b 512"
tar $many -cf /dev/null -T /dev/null 2>/dev/null || many=
if [ -d "$1" ]; then exec tar $many -cf - -C "$1" .; fi
if [ -f "$1" ]; then cd "$2" && exec tar $many -chf - "./$3"; exit 1; fi
if [ -e "$1" ]; then echo "it is neither file nor folder" >&2; else echo "it isn't there" >&2; fi
exit 100
"""
# Arguments: the path, its folder and its name there, the source's name, a name that is new, and whether a
# folder comes. What is there already stays until all has come. What copies that were killed have left goes a
# day later: no other one is on its way for so long, and not every image or file system has locks.
_TAKE_SCRIPT = """\
command -v tar >/dev/null || exit 127
fail() { echo "$1" >&2; exit 100; }
if [ -d "$1" ]; then dir=$1 name=$4; else dir=$2 name=$3; fi
[ -d "$dir" ] || fail "there is no folder $dir"
[ -n "$name" ] || fail "there is no folder $1"
find "$dir"/.gpuyard-new-* -prune -mtime +0 -exec rm -rf {} + 2>/dev/null
new=$dir/$5
mkdir -m 700 "$new" || exit 100
trap 'rm -rf "$new"' EXIT
trap 'exit 100' HUP INT TERM
tar -xpof - -C "$new" || exit 100
[ -e "$new/end" ] || fail "not all of it came"
if [ ! -d "$dir/$name" ]; then mv -f "$new/it" "$dir/$name"
elif [ "$6" = folder ]; then cp -a "$new/it/." "$dir/$name/"
else fail "$dir/$name is a folder"; fi || exit 100
"""


@dataclass(frozen=True)
class CopyResult:
    """What was copied.

    Attributes:
        path: where it is now, on this machine or in the pod.
        size_bytes: of all files.
        notes: what was left out, with the reason.
        changed: what the pod's tar says of files of a folder that changed while they were read; their copies
            may be torn.
    """

    path: str
    size_bytes: int
    notes: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


async def copy_from(target: Target, pod: LivePod, remote: str, local: Path, progress: Progress) -> CopyResult:
    """Copies a file or a folder of a pod into a folder that is there, or to a name.

    A folder of the same name is added to, and files of the same names are replaced.

    Raises:
        UsageError: there is no place for it.
        GpuyardError: it isn't there, can't be read, is a file that changed meanwhile, or the connection was
            cut; then nothing has changed here.
        OSError: it can't be written here.
    """
    folder, name = _parts(remote)
    final = local / name if local.is_dir() and name else local
    if final.is_symlink() and final.is_dir():
        final = final.resolve()  # A link of the user's; those below it may be of an earlier copy.
    if not final.parent.is_dir() or (str(local).endswith("/") and not local.is_dir()):
        raise errors.UsageError(f"there is no folder {final.parent}", remedy="make it, or name another")
    sweep(final.parent)
    with unfinished_folder(final.parent) as beside, contextlib.closing(TarReader(beside / "it")) as reader:
        console = _Taking(reader, progress)
        command = ("sh", "-c", _SEND_SCRIPT, "sh", _no_option(remote), folder, name)
        code = await exec_in(target, pod, command, console)
        changed = code == _CHANGED and reader.is_whole
        if code and not changed:
            raise _failed(pod, f"can't copy {remote} from {pod.name}", code, console.said)
        if not reader.is_whole or not (beside / "it").exists():
            raise errors.ConnectionFailed(f"not all of {remote} came", remedy="copy it again")
        if changed and not (beside / "it").is_dir():
            raise errors.GpuyardError(
                f"{remote} of {pod.name} changed while it was copied",
                remedy="nothing was changed here; try again when nobody writes it",
            )
        reader.finish()
        _put(beside / "it", final)
    torn = console.said.splitlines() if changed else ()
    return CopyResult(str(final), reader.done_bytes, tuple(reader.left_out), tuple(torn))


async def copy_to(target: Target, pod: LivePod, local: Path, remote: str, progress: Progress) -> CopyResult:
    """The other way.

    Raises:
        UsageError: there is nothing to copy.
        GpuyardError: there is no place for it, it can't be written, or the connection was cut; then nothing
            has changed.
        OSError: it can't be read here.
    """
    if not local.exists():
        raise errors.UsageError(f"there is no {local}", remedy="name a file or a folder")
    writer = TarWriter(local)
    console = _Giving(writer, progress)
    folder, name = _parts(remote)
    new, kind = f".gpuyard-new-{os.urandom(8).hex()}", "folder" if writer.is_folder else "file"
    if remote.endswith("/"):
        name = ""
    command = (
        "sh",
        "-c",
        _TAKE_SCRIPT,
        "sh",
        _no_option(remote),
        folder,
        name,
        local.resolve().name,
        new,
        kind,
    )
    if code := await exec_in(target, pod, command, console):
        raise _failed(pod, f"can't copy {local} to {remote} of {pod.name}", code, console.said)
    return CopyResult(remote, writer.done_bytes, tuple(writer.left_out))


def _parts(remote: str) -> tuple[str, str]:
    """The folder of a path, and the name there; without one for a folder's own path such as `/` or `..`."""
    # A `..` stays: after a link it leads where only the pod knows.
    folder, name = posixpath.split(re.sub(r"(?<=.)(/\.?)+$", "", remote) or ".")
    if name in (".", ".."):
        return posixpath.join(folder, name), ""
    return _no_option(folder) or ".", name


def _no_option(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path


class _Taking:
    """Implements `Console` for an archive that comes."""

    def __init__(self, reader: TarReader, progress: Progress) -> None:
        self.streams = Streams()
        self.said = ""
        self._reader = reader
        self._progress = progress

    async def read(self) -> bytes:
        """See `Console`."""
        return b""

    async def write(self, channel: Channel, data: Bytes) -> None:
        """See `Console`."""
        if channel is Channel.STDERR:
            self.said = (self.said + bytes(data).decode(errors="replace"))[-_MAX_SAID_BYTES:]
            return
        self._reader.feed(data)
        self._progress(self._reader.done_bytes, self._reader.size)

    async def size(self) -> tuple[int, int]:
        """See `Console`."""
        raise AssertionError("there is no terminal")


class _Giving:
    """Implements `Console` for an archive that is sent."""

    def __init__(self, writer: TarWriter, progress: Progress) -> None:
        self.streams = Streams(stdin=True)
        self.said = ""
        self._writer = writer
        self._pieces: Iterator[bytes] = writer.pieces()
        self._progress = progress

    async def read(self) -> bytes:
        """See `Console`."""
        self._progress(self._writer.done_bytes, self._writer.size)
        # A piece of nothing would be taken for the end.
        return next((piece for piece in self._pieces if piece), b"")

    async def write(self, channel: Channel, data: Bytes) -> None:
        """See `Console`."""
        self.said = (self.said + bytes(data).decode(errors="replace"))[-_MAX_SAID_BYTES:]

    async def size(self) -> tuple[int, int]:
        """See `Console`."""
        raise AssertionError("there is no terminal")


def _put(made: Path, final: Path) -> None:
    """Gives what was made its name.

    Raises:
        UsageError: something of another kind has it.
    """
    is_folder = final.is_dir() and not final.is_symlink()
    if made.is_dir() and not made.is_symlink() and is_folder:
        for entry in made.iterdir():
            _put(entry, final / entry.name)
        return
    try:
        made.replace(final)
    except (IsADirectoryError, NotADirectoryError) as error:
        kind = "a folder" if is_folder else "a link" if final.is_symlink() else "no folder"
        raise errors.UsageError(
            f"{final} is {kind} here, and not there", remedy="copy to another name"
        ) from error


def _failed(pod: LivePod, what: str, code: int, said: str) -> errors.GpuyardError:
    if code == _NO_TAR:
        return errors.GpuyardError(
            f"{what}: its image has no tar",
            remedy=f"a single file goes by `gpuyard exec {pod.run} -- cat FILE > FILE`, where there is a cat",
        )
    text = "; ".join(said.split("\n")).strip("; ") or f"tar ended with {code}"
    return errors.GpuyardError(f"{what}: {text}", remedy="nothing was changed")
