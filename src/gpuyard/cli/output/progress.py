"""Progress of builds on standard error: one line that is rewritten, on a pipe only what should be read."""

from __future__ import annotations

import sys
import time

import click

from gpuyard.cli.output.results import StatusLine

_EVERY_S = 0.1
_MB = 1e6


class BuildProgress:
    """Implements `building.work.Reporter`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._line = StatusLine()
        self._quiet = quiet
        self._work: dict[str, tuple[int, int]] = {}
        self._last = 0.0

    def say(self, text: str) -> None:
        """A line that stays."""
        self._line.clear()
        click.echo(text, err=True)

    def bytes(self, what: str, done: int, total: int) -> None:
        """Rewrites the line at most ten times a second; a pipe gets none of it."""
        self._work[what] = (done, total)
        now = time.monotonic()
        if self._quiet or not self._line.live or now - self._last < _EVERY_S:
            return
        self._last = now
        if total and done >= total:
            del self._work[what]
            return
        more = sum(1 for d, t in self._work.values() if not t or d < t) - 1
        amount = (
            f" {done / _MB:.0f} of {total / _MB:.0f} MB" if total else f" {done / _MB:.0f} MB" if done else ""
        )
        self._line.show(f"{what}{amount}" + (f", and {more} more" if more > 0 else "") + " …")

    def done(self) -> None:
        """Takes the line away."""
        self._line.clear()
        sys.stderr.flush()
