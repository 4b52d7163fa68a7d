"""One task of a sweep: its values in the place of `{name}` in the command, and as variables.

GPUYARD_SWEEP has the tables of values as JSON, `[{"names": ["lr"], "rows": [["0.1"], ["0.2"]]}, …]`. A task
has a row of each: of the last table every task the next one, as the digits of a number.
JOB_COMPLETION_INDEX says which task this is.

Standard library only, Python 3.6 and later, as launcher.py, beside which this file lies.
"""

import json
import os
import re
import sys

if False:  # typing would cost every run's start
    from typing import Any

EXIT_USAGE = 64


def become_task(argv: "list[str]", say: "Any") -> "list[str]":
    """The launcher's words for this task, once its values are in the environment; ends where there are none.

    Args:
        argv: with the placeholders.
        say: prints a line of ours.
    """
    try:
        values = values_of(os.environ)
    except ValueError as error:
        say(str(error))
        sys.exit(EXIT_USAGE)
    del os.environ["GPUYARD_SWEEP"]
    os.environ.update(values)
    return [argv[0], *(filled(word, values) for word in argv[1:])]


def values_of(environment: "Any") -> "dict[str, str]":
    """The values of the task that has these variables.

    Raises:
        ValueError: they aren't as gpuyard sets them.
    """
    try:
        tables, index = json.loads(environment["GPUYARD_SWEEP"]), int(environment["JOB_COMPLETION_INDEX"])
        return row(tables, index)
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"GPUYARD_SWEEP and JOB_COMPLETION_INDEX aren't as gpuyard sets them: {error!r}"
        ) from None


def row(tables: "list[dict[str, Any]]", index: int) -> "dict[str, str]":
    """The values of the task of this number."""
    values = {}  # type: dict[str, str]
    for table in reversed(tables):
        index, place = divmod(index, len(table["rows"]))
        values.update(zip(table["names"], table["rows"][place]))  # noqa: B905 - Python 3.10 has `strict`
    if index:
        raise ValueError("there are fewer tasks")
    return values


def filled(word: str, values: "dict[str, str]") -> str:
    """The word with values in the place of their names in braces; of two pairs of braces one goes."""

    def put(match: "Any") -> str:
        name = match.group(1)
        return str(values.get(name, match.group(0))) if name else str(match.group(0)[1:-1])

    return re.sub(r"\{\{[A-Za-z_]\w*\}\}|\{([A-Za-z_]\w*)\}", put, word)
