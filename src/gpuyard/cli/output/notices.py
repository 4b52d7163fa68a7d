"""Notices of `runs`, printed on standard error."""

from __future__ import annotations

import click

from gpuyard.runs.notices import Notice, NoticeKind

#: A terminal shows `^C` where the user interrupted: the text starts on a line of its own.
_PREFIXES = {NoticeKind.NOTE: "", NoticeKind.WARNING: "Warning: ", NoticeKind.INTERRUPT: "\n"}


def print_notice(notice: Notice) -> None:
    """Prints one; a `Notify`."""
    click.echo(_PREFIXES[notice.kind] + notice.text, err=True)
