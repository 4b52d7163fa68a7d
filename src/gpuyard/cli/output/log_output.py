"""Standard output as the processes of runs fill it: bytes unchanged, and our own lines apart from them."""

from __future__ import annotations

import os
import sys

import click


class LogOutput:
    """Owns where the output stands, so that a line of ours never begins in the middle of one of theirs."""

    def __init__(self) -> None:
        self._in_line = False

    def write(self, piece: bytes) -> None:
        """Copies output to standard output at once."""
        if piece:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            self._in_line = not piece.endswith(b"\n")

    def end_line(self) -> None:
        """Begins a new line where both streams show in one place; a file gets what the processes wrote."""
        if self._in_line and _one_place():
            click.echo(err=True)
        self._in_line = False

    def say(self, text: str) -> None:
        """Prints a line of ours to standard error."""
        self.end_line()
        click.echo(text, err=True)


def _one_place() -> bool:
    """Whether standard output and standard error are the same terminal, pipe or file."""
    out, err = os.fstat(sys.stdout.fileno()), os.fstat(sys.stderr.fileno())
    return (out.st_dev, out.st_ino, out.st_rdev) == (err.st_dev, err.st_ino, err.st_rdev)
