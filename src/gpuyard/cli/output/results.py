"""How results look: tables that fit the terminal for people, JSON for machines."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TextIO

import click

from gpuyard.cli.output.terminal_text import plain

_GAP = "   "
#: Cells aren't cut to less.
_LEAST = 10
_WORD = re.compile(r"(?<=: )(?:kubectl|gpuyard) [^;,]*[;,]?|(?:`[^`]*`|\S)+")


def print_json(value: object) -> None:
    """One indented JSON document."""
    import orjson

    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        import json

        # A folder's name may be no UTF-8: its bytes are escaped then.
        text = json.dumps(value, indent=2).encode() + b"\n"
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def print_wrapped(text: str, *, first: str = "", rest: str = "    ", err: bool = False) -> None:
    """Prints lines of text, broken between words where a terminal is too narrow; whole ones into a pipe.

    Args:
        text: one line, or several.
        first: before each line.
        rest: before what had to be broken off; lines that are indented are so further.
        err: on standard error.
    """
    stream = sys.stderr if err else sys.stdout
    columns = terminal_columns(stream) if stream.isatty() else None
    for line in text.split("\n"):
        bare = line.lstrip(" ")
        indent = line[: len(line) - len(bare)]
        lines = [first + line] if columns is None else wrap(bare, columns, first + indent, rest + indent)
        click.echo("\n".join(lines), err=err)


def wrap(text: str, columns: int, first: str = "", rest: str = "") -> list[str]:
    """The text in lines of at most so many columns, as far as its words are shorter than those.

    A command stays in one piece, so that it can be copied: in backquotes, or after a colon.
    """
    # As it will be seen: control characters are written out.
    text = plain(text)
    if len(first) + len(text) <= columns:
        return [first + text]
    lines: list[str] = []
    line, is_begun = first, False
    for word in _WORD.findall(text):
        if is_begun and len(line) + 1 + len(word) > columns:
            lines.append(line)
            line, is_begun = rest, False
        line += f" {word}" if is_begun else word
        is_begun = True
    return [*lines, line]


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, flexible: int = -1, drop: Sequence[str] = ()
) -> None:
    """Columns side by side, made to fit a terminal that is too narrow: see `fit_table`."""
    table = [list(header), *([plain(cell).replace("\n", " ") for cell in row] for row in rows)]
    if sys.stdout.isatty():
        table = fit_table(table, terminal_columns(sys.stdout), flexible=flexible, drop=drop)
    for line in table_lines(table):
        click.echo(line)


def table_lines(table: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side, the header first."""
    widths = _widths(table)
    return [
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def fit_table(
    table: Sequence[Sequence[str]], columns: int, *, flexible: int, drop: Sequence[str]
) -> list[list[str]]:
    """The table no wider than a terminal, as far as that goes.

    Args:
        table: the header, then the rows.
        columns: of the terminal.
        flexible: number of the column that is cut with `…` first, down to ten letters.
        drop: headers of the columns that are left out then, in this order; at last the widest ones are cut.
    """
    fitted = [list(row) for row in table]
    flexible %= len(fitted[0])
    name = fitted[0][flexible]
    for doomed in (None, *drop):
        if doomed is not None:
            gone = fitted[0].index(doomed)
            fitted = [row[:gone] + row[gone + 1 :] for row in fitted]
        if _excess(fitted, columns) <= _widths(fitted)[fitted[0].index(name)] - _LEAST:
            break
    fitted = _cut_column(fitted, fitted[0].index(name), columns)
    # Then whatever is widest: a name may be long in any column.
    for place in sorted(range(len(fitted[0])), key=lambda place: -_widths(fitted)[place]):
        fitted = _cut_column(fitted, place, columns)
    return fitted


def _cut_column(table: list[list[str]], place: int, columns: int) -> list[list[str]]:
    """The table with this column cut as far as its width is too much, and as far as that goes."""
    excess = _excess(table, columns)
    if excess <= 0:
        return table
    width = max(_LEAST, len(table[0][place]), _widths(table)[place] - excess)
    return [[_cut(c, width) if n == place else c for n, c in enumerate(row)] for row in table]


def megabytes(size: int) -> str:
    """A size in bytes: `88.7 MB`, `6 kB` below a tenth of one, and `2 B` below one of these."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{math.ceil(size / 1000)} kB"


def _widths(table: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[column]) for row in table) for column in range(len(table[0]))]


def _excess(table: Sequence[Sequence[str]], columns: int) -> int:
    widths = _widths(table)
    return sum(widths) + len(_GAP) * (len(widths) - 1) - columns


def terminal_columns(stream: TextIO) -> int:
    """Width of the terminal behind a stream, or what COLUMNS says.

    `shutil` knows it too, and is long to import.
    """
    said = os.environ.get("COLUMNS", "")
    try:
        return (int(said) if said.isdecimal() else 0) or os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """`Name:  value` lines, values and their further lines aligned; empty values are left out."""
    width = max(len(name) for name, _ in fields) + 1
    for name, value in fields:
        if value:
            aligned = value.replace("\n", "\n" + " " * (width + 2))
            click.echo(f"{name + ':':<{width}}  {aligned}")


def age(since: datetime | None, now: datetime) -> str:
    """`45s`, `3m10s`, `2h5m`, `4d`; empty without a start."""
    return "" if since is None else duration(now - since)


def duration(span: timedelta) -> str:
    """The two largest units that matter, as kubectl prints it."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 120:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 10:
        return f"{minutes}m{seconds}s" if seconds else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes}m" if minutes and hours < 8 else f"{hours}h"
    return f"{hours // 24}d"


class StatusLine:
    """One line on standard error that is rewritten in place; on a pipe each new text is a line."""

    def __init__(self) -> None:
        #: Whether the line is rewritten in place.
        self.live = sys.stderr.isatty()
        self._shown = ""

    def show(self, text: str) -> None:
        """Replaces the line."""
        if text == self._shown:
            return
        if self.live:
            self._rewrite(_cut(plain(text), terminal_columns(sys.stderr) - 1))
        elif text:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        self._shown = text

    def clear(self) -> None:
        """Takes the line away before other output."""
        if self.live and self._shown:
            self._rewrite("")
        self._shown = ""

    def _rewrite(self, text: str) -> None:
        # As bytes: of the text streams no control character comes out.
        sys.stderr.flush()
        sys.stderr.buffer.write(f"\r\x1b[K{text}".encode(errors="replace"))
        sys.stderr.buffer.flush()
