"""The values of a sweep: as a line of CSV, a range, a list or a table in a file, and which task has which."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gpuyard.kube.wellknown import ALLOCATED_ENV, ENV_SWEEP

#: Of one sweep: what a Kubernetes API takes of an Indexed Job whose indexes fail each for itself.
MAX_TASKS = 100_000
#: Linux gives a process no longer variable (MAX_ARG_STRLEN, execve(2)), its name and a zero byte included.
MAX_TABLES_BYTES = (128 << 10) - len(ENV_SWEEP) - 2

_NAME = r"(?a)[A-Za-z_][A-Za-z0-9_]*"
_RANGE = r"(?a)([+-]?\d{1,18})\.\.([+-]?\d{1,18})"
_RESERVED = frozenset({"JOB_COMPLETION_INDEX"})


@dataclass(frozen=True)
class ValueTable:
    """Values that belong together: each row has one for each name."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Sweep:
    """All combinations of the rows of its tables."""

    tables: tuple[ValueTable, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the values that each task has."""
        return tuple(name for table in self.tables for name in table.names)

    @property
    def size(self) -> int:
        """How many tasks there are."""
        return math.prod(len(table.rows) for table in self.tables)

    def task(self, index: int) -> dict[str, str]:
        """The values of the task of this number, the first of which is 0."""
        found: list[tuple[str, str]] = []
        for table in reversed(self.tables):
            index, place = divmod(index, len(table.rows))
            found[:0] = zip(table.names, table.rows[place], strict=True)
        return dict(found)

    @cached_property
    def as_json(self) -> str:
        """As launcher_sweep.py reads it."""
        tables = [{"names": table.names, "rows": table.rows} for table in self.tables]
        return json.dumps(tables, ensure_ascii=False, separators=(",", ":"))


def sweep_name(written: str) -> str:
    """The name of a value, which is a variable of each task; raises ValueError for what can't be one."""
    if not re.fullmatch(_NAME, written):
        raise ValueError(
            f"{written!r} can't name a value: it becomes a variable; use letters, digits and '_'"
        )
    if written in ALLOCATED_ENV | _RESERVED or written.startswith("GPUYARD_"):
        raise ValueError(f"{written!r} can't name a value: that variable is gpuyard's own")
    return written


def parse_values(written: Any) -> tuple[str, ...]:
    """The values of one name: a list has them as they are, text is a line of CSV or a range such as 1..3.

    Raises:
        ValueError: there are none, one is empty, one is there twice, or there are too many.
    """
    if isinstance(written, list) and all(isinstance(value, str) for value in written):
        values = tuple(written)
    elif isinstance(written, str):
        values = tuple(_split(written))
    else:
        raise ValueError("must be values with commas between them, a range such as 1..3, or a list")
    if not values:
        raise ValueError("has no values, so that there would be no task; write for example 1e-3,1e-4")
    for value in values:
        _check(value)
    [(value, count)] = Counter(values).most_common(1)
    if count > 1:
        raise ValueError(f"has {value!r} {count} times: {_SAME}")
    return values


def _split(line: str) -> list[str]:
    if match := re.fullmatch(_RANGE, line.strip()):
        return _range(int(match[1]), int(match[2]))
    if not line.strip():
        return []
    try:
        rows = list(csv.reader(io.StringIO(line, newline=""), strict=True))
    except csv.Error as error:
        raise ValueError(f"{line!r} is no line of CSV ({error}); {_QUOTING}") from error
    if len(rows) != 1:
        raise ValueError(f"{line!r} has a new line in it; {_QUOTING}")
    if "" in rows[0]:
        raise ValueError(f"{line!r} has an empty value; an empty one can be written in a list of a spec file")
    return rows[0]


_SAME = "tasks that are the same; leave one out, or sweep a number such as seed=1..2, too"
_QUOTING = "a value with a comma, a quote or a new line stands in double quotes, in which a quote is doubled"


def _range(first: int, last: int) -> list[str]:
    if last < first:
        raise ValueError(f"{first}..{last} has no values; write the smaller number first")
    if last - first >= MAX_TASKS:
        raise ValueError(
            f"{first}..{last} has {last - first + 1} values; a sweep has {MAX_TASKS} tasks at most"
        )
    return [str(number) for number in range(first, last + 1)]


def _check(value: str) -> None:
    if "\0" in value:
        raise ValueError("a value has a byte 0 in it, which no variable can hold")


def parse_table(text: str) -> ValueTable:
    """The table of a CSV file: names in its first line, a task in each further one.

    Raises:
        ValueError: it is none; the message has the line.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    rows: dict[tuple[str, ...], int] = {}  # each with its line
    names: tuple[str, ...] | None = None
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if names is None:
                names = _header(row)
                continue
            if len(row) != len(names):
                raise ValueError(f"has {len(row)} values, and the first line has {len(names)} names")
            for value in row:
                _check(value)
            if (before := rows.setdefault(tuple(row), reader.line_num)) != reader.line_num:
                raise ValueError(f"has the values of line {before}: {_SAME}")
            if len(rows) > MAX_TASKS:
                raise ValueError(f"is one more than the {MAX_TASKS} tasks that a sweep has at most")
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} is no CSV: {error}") from error
    except ValueError as error:
        raise ValueError(f"line {reader.line_num} {error}") from error
    if not rows or names is None:
        raise ValueError("has no tasks: the first line has the names, each further one the values of a task")
    return ValueTable(names, tuple(rows))


def _header(row: list[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in row)
    for name in names:
        try:
            sweep_name(name)
        except ValueError as error:
            raise ValueError(f"is wrong: {error}") from error
    if len(set(names)) < len(names):
        raise ValueError("has a name twice")
    return names


def check_sweep(sweep: Sweep) -> None:
    """Raises ValueError for a sweep that is too large, with the arithmetic, or has a name twice."""
    if len(set(sweep.names)) < len(sweep.names):
        twice = next(name for name in sweep.names if sweep.names.count(name) > 1)
        raise ValueError(f"{twice} is swept twice; name it once")
    if sweep.size > MAX_TASKS:
        product = " × ".join(str(len(table.rows)) for table in sweep.tables)
        whole = f"{product} = {sweep.size}" if len(sweep.tables) > 1 else str(sweep.size)
        raise ValueError(f"{whole} tasks; a sweep has {MAX_TASKS} at most: write fewer values")
    size = len(sweep.as_json.encode())
    if size > MAX_TABLES_BYTES:
        raise ValueError(
            f"its values have {size} bytes together, and a process can be given {MAX_TABLES_BYTES}; write "
            "fewer or shorter ones, or let each task look up its own by its number, JOB_COMPLETION_INDEX"
        )
