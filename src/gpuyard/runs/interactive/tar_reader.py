"""An archive from a pod, unpacked as it comes. Nothing in it can name a place outside the folder it goes to.

What a pod sends isn't trusted. Names that are absolute or have `..` are refused. What isn't in a folder that
the archive has made is left out, and links are made last, so that nothing is made or written through a link.
Links that lead out of the folder are left out. So are devices, FIFOs and sockets; owners are the user's own,
and of modes the nine bits of permissions stay.
Sources: POSIX pax(1) (ustar and its extended headers), GNU tar's long names (types L and K).
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from pathlib import Path

from gpuyard import errors
from gpuyard.client.streams.websocket import Bytes

_BLOCK = tarfile.BLOCKSIZE
#: Of names and other words about a member; more is no archive.
_MAX_WORDS_BYTES = 1 << 20
_WORDS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_PERMISSIONS = 0o777
#: What is read of extended headers.
_PAX_KEYS = {b"path", b"linkpath", b"size"}
#: Of names that are left out; the others are counted. And how much of a name and of a reason is said.
_MAX_LEFT_OUT = 100
_MAX_SAID = 1000
#: Of a number of bytes; a file system's largest file has 19.
_MAX_DIGITS = 20

#: Where a member goes, below the folder; nothing of it is "", "." or "..".
_Parts = tuple[str, ...]


class TarReader:
    """Takes an archive piece by piece: either one file, or a folder that is called `.` and what is in it.

    Args:
        made: becomes the file or the folder; nothing is there yet, and its own folder is nobody else's.

    Attributes:
        size: of the file, as soon as that is known; 0 of a folder.
        done_bytes: of files, so far.
        is_whole: whether the archive's end has come.
        left_out: names that weren't unpacked, with the reason; the first hundred, and then how many more.
    """

    def __init__(self, made: Path) -> None:
        self.size = self.done_bytes = 0
        self.is_whole = False
        self._left_out: list[str] = []
        self._more_left_out = 0
        self._made = made
        self._head = bytearray()
        self._left = self._padding = 0
        self._words: bytearray | None = None
        self._info = tarfile.TarInfo()
        self._said: dict[str, str] = {}
        self._file = -1
        self._links: dict[_Parts, str] = {}
        self._folders: dict[_Parts, int] = {}

    @property
    def left_out(self) -> list[str]:
        """See the class."""
        return self._left_out + ([f"{self._more_left_out} more"] if self._more_left_out else [])

    def feed(self, data: Bytes) -> None:
        """Takes the next piece.

        Raises:
            GpuyardError: it is no archive, or one that isn't to be trusted.
            OSError: it can't be written.
        """
        view = memoryview(data)
        while view and not self.is_whole:
            if self._left:
                piece, view = view[: self._left], view[self._left :]
                self._left -= len(piece)
                self._take(piece)
                if not self._left:
                    self._end_member()
            elif self._padding:
                skipped = min(self._padding, len(view))
                self._padding, view = self._padding - skipped, view[skipped:]
            else:
                missing = _BLOCK - len(self._head)
                self._head += view[:missing]
                view = view[missing:]
                if len(self._head) == _BLOCK:
                    self._begin_member(bytes(self._head))
                    self._head.clear()

    def finish(self) -> None:
        """Makes the links, and gives folders their modes; to be called once it is whole."""
        for parts, target in self._links.items():
            self._made.joinpath(*parts).symlink_to(target)
        for parts, mode in reversed(self._folders.items()):
            self._made.joinpath(*parts).chmod(mode | 0o700)  # Else it couldn't be moved, nor removed.

    def close(self) -> None:
        """Ends what is begun."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _begin_member(self, block: bytes) -> None:
        if block == bytes(_BLOCK):
            self.is_whole = True
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise _untrusted(f"it is no archive ({error})") from error
        if info.size < 0:
            raise _untrusted("it has a broken header")
        self._info, self._left = info, info.size
        self._padding = -info.size % _BLOCK
        if info.type in _WORDS:
            if info.size > _MAX_WORDS_BYTES:
                raise _untrusted("a name in it has no end")
            self._words = bytearray()
        else:
            self._begin_object(info)
        if not self._left:
            self._end_member()

    def _begin_object(self, info: tarfile.TarInfo) -> None:
        """Makes what the header is about; `_left` is what of it comes."""
        name = self._said.get("path", info.name)
        target = self._said.get("linkpath", info.linkname)
        self._left = int(self._said.get("size", info.size))
        self._padding = -self._left % _BLOCK
        self._said.clear()
        parts = self._place(name)
        path = self._made.joinpath(*parts)
        if parts and parts[:-1] not in self._folders:
            self._leave_out(name, "it is in no folder of what is copied")
        elif info.isdir():
            path.mkdir(mode=0o700, exist_ok=True)
            self._folders[parts] = info.mode & _PERMISSIONS
        elif info.type in _FILES:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(path, flags, 0o600)
            self.size = 0 if parts else self._left
        elif info.issym():
            self._keep_link(parts, name, target)
        elif info.islnk():
            self._link(parts, name, target)
        else:
            self._leave_out(name, "neither file, folder nor link")

    def _leave_out(self, name: str, why: str) -> None:
        if len(self._left_out) < _MAX_LEFT_OUT:
            self._left_out.append(f"{name[:_MAX_SAID]}: {why[:_MAX_SAID]}")
        else:
            self._more_left_out += 1

    def _keep_link(self, parts: _Parts, name: str, target: str) -> None:
        # Folders above are real, so the name tells how deep it is.
        depth = len(parts) - 1
        steps = _steps(target)
        ups = next((n for n, step in enumerate(steps) if step != ".."), len(steps))
        # `..` behind a name could leave from where a link by that name leads to.
        if target.startswith("/") or ups > depth or ".." in steps[ups:]:
            self._leave_out(name, f"a link that leads out of the folder, to {target}")
        else:
            self._links[parts] = target

    def _link(self, parts: _Parts, name: str, target: str) -> None:
        """Gives a file, or a link that is still to be made, one more name."""
        first = self._place(target)
        path = self._made.joinpath(*first)
        if first in self._links:
            self._keep_link(parts, name, self._links[first])
        elif first[:-1] in self._folders and path.is_file():
            os.link(path, self._made.joinpath(*parts), follow_symlinks=False)
        else:
            self._leave_out(name, f"the same as {target}, which isn't there")

    def _place(self, name: str) -> _Parts:
        """Where a member goes: the first one decides whether it is a file alone or a folder."""
        parts = _steps(name)
        if name.startswith("/") or ".." in parts:
            raise _untrusted(f"{name!r} is outside the folder that is copied")
        if self._folders:
            return parts
        if self._made.exists():
            raise _untrusted(f"{name!r} comes after a file")
        if len(parts) > 1:
            raise _untrusted(f"{name!r} is in no folder")
        return ()

    def _take(self, piece: memoryview) -> None:
        if self._words is not None:
            self._words += piece
        elif self._file >= 0:
            self.done_bytes += len(piece)
            while piece:
                piece = piece[os.write(self._file, piece) :]

    def _end_member(self) -> None:
        if self._words is not None:
            self._read_words(bytes(self._words))
            self._words = None
        elif self._file >= 0:
            os.fchmod(self._file, self._info.mode & _PERMISSIONS)
            with contextlib.suppress(OverflowError, OSError):
                os.utime(self._file, (self._info.mtime, self._info.mtime))
            self.close()

    def _read_words(self, words: bytes) -> None:
        if self._info.type == tarfile.XGLTYPE:
            return
        if self._info.type != tarfile.XHDTYPE:
            key = "path" if self._info.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
            self._said[key] = os.fsdecode(words.rstrip(b"\0"))
            return
        while words:
            length, *_ = words.partition(b" ")
            if not _is_number(length) or not len(length) < int(length) <= len(words):
                raise _untrusted("it has a broken header")
            key_bytes, _, value = words[len(length) + 1 : int(length) - 1].partition(b"=")
            if key_bytes == b"size" and not _is_number(value):
                raise _untrusted("it has a broken header")
            if key_bytes in _PAX_KEYS:
                self._said[key_bytes.decode()] = os.fsdecode(value)
            words = words[int(length) :]


def _steps(path: str) -> _Parts:
    if "\0" in path:
        raise _untrusted("a name in it has a zero byte")
    return tuple(step for step in path.split("/") if step not in ("", "."))


def _is_number(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) <= _MAX_DIGITS  # of bytes only ASCII's digits are


def _untrusted(why: str) -> errors.GpuyardError:
    return errors.GpuyardError(
        f"the pod sends what can't be unpacked: {why}",
        remedy="does a program called tar in its image do something else?",
    )
