"""Standard output as the processes of runs fill it: bytes unchanged, and our own lines apart from them."""

from __future__ import annotations

import functools
import os
import re
import sys

import click

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "red")


class LogOutput:
    """Owns where the output stands, so that a line of ours never begins in the middle of one of theirs."""

    def __init__(self) -> None:
        self._in_line = False
        #: Whether the line that isn't ended is one that is written again.
        self._rewrites = False
        #: What of each rank isn't a whole line yet.
        self._held: dict[int, bytes] = {}

    def write(self, piece: bytes) -> None:
        """Copies output to standard output at once."""
        if piece:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            self._in_line = not piece.endswith(b"\n")

    def write_rank(self, rank: int, piece: bytes, label: str) -> None:
        """Copies whole lines of one of several ranks, each with its label before it.

        What a progress bar writes again and again (`\\r`) counts as lines, so that it stays live.
        """
        text = self._held.pop(rank, b"") + piece
        end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        if rest := text[end:]:
            self._held[rank] = rest
        if not end:
            return
        if self._in_line and not self._rewrites:
            self.write(b"\n")
        prefix, whole = rank_prefix(rank, label), text[:end]
        if b"\r" in whole:
            whole = re.sub(rb"(?:\r(?!\n)|\n)(?!\Z)", lambda match: match[0] + prefix, whole)
        else:
            whole = whole[:-1].replace(b"\n", b"\n" + prefix) + b"\n"
        self.write(prefix + whole)
        self._rewrites = whole.endswith(b"\r")

    def end_rank(self, rank: int, label: str) -> None:
        """Prints what is left of a rank, whose last line isn't whole."""
        if rest := self._held.pop(rank, b""):
            self.write_rank(rank, rest + b"\n", label)

    def end_line(self) -> None:
        """Begins a new line where both streams show in one place; a file gets what the processes wrote."""
        if self._in_line and _one_place():
            click.echo(err=True)
        self._in_line = False

    def say(self, text: str) -> None:
        """Prints a line of ours to standard error."""
        self.end_line()
        click.echo(text, err=True)


def rank_prefix(rank: int, label: str) -> bytes:
    """`[3] `, in a colour of its own on a terminal."""
    text = f"[{label}]"
    return (click.style(text, fg=_COLOURS[rank % len(_COLOURS)]) if _has_colours() else text).encode() + b" "


@functools.cache
def _has_colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _one_place() -> bool:
    """Whether standard output and standard error are the same terminal, pipe or file."""
    out, err = os.fstat(sys.stdout.fileno()), os.fstat(sys.stderr.fileno())
    return (out.st_dev, out.st_ino, out.st_rdev) == (err.st_dev, err.st_ino, err.st_rdev)
