"""Writes docs/reference/python.md from signatures and docstrings. With --check, says whether it differs."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import gpuyard
from gpuyard import checkpoint
from gpuyard.runs.explaining.explanation import Answer
from gpuyard.runs.interactive.command import CommandResult
from gpuyard.runs.interactive.copying import CopyResult
from gpuyard.runs.notices import Notice
from gpuyard.workloads.run_state import RunState

TARGET = Path(__file__).resolve().parent.parent / "docs/reference/python.md"

HEAD = """\
# Python

<!-- Written by tools/generate_python_reference.py from the code. -->

`import gpuyard` costs next to nothing; the rest is imported when `connect` is called. What goes wrong is an
exception of `gpuyard.errors` with a `message` and a `remedy`; `UsageError` is a mistake of the caller's.
[The tutorial](../tutorials/from-python.md) shows how it goes together.

Each name below has a twin for programs with an event loop: `connect_async`, `AsyncYard`, `AsyncRun`, with
the same names and arguments. Their methods are awaited, `logs` is read by `async for`, and the connection is
opened by `async with`.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, "\n".join(function("gpuyard.connect", gpuyard.connect, "##"))]
    for blocking, asynchronous in ((gpuyard.Yard, gpuyard.AsyncYard), (gpuyard.Run, gpuyard.AsyncRun)):
        parts.append(f"## {blocking.__name__}\n\n{text(blocking)}\n")
        for name, value in vars(blocking).items():
            if not name.startswith("_"):
                documented = vars(asynchronous).get(name, value)
                parts.append("\n".join(member(f"{blocking.__name__}.{name}", value, documented)))
    parts += ["\n".join(record(kind)) for kind in (RunState, Answer, CommandResult, CopyResult, Notice)]
    parts.append(f"## gpuyard.checkpoint\n\n{text(checkpoint)}\n")
    for used in (checkpoint.stop_requested, checkpoint.save, checkpoint.saved, checkpoint.latest):
        parts.append("\n".join(function(f"gpuyard.checkpoint.{used.__name__}", used, "###")))
    return "\n".join(parts)


def member(name: str, value: Any, documented: Any) -> Iterator[str]:
    """A method or a property; its words are those of the asynchronous twin."""
    if isinstance(value, property):
        yield f"### {name}\n\n{text(documented)}\n"
    else:
        yield from function(name, value, "###", documented)


def function(name: str, value: Callable[..., Any], level: str, documented: Any = None) -> Iterator[str]:
    """A function with its signature."""
    signature = str(inspect.signature(value)).replace("self, ", "").replace("(self)", "()")
    signature = re.sub(r"<function (\w+) at 0x\w+>", r"\1", signature).replace("'", "")
    yield f"{level} {name}\n\n```python\n{name.rpartition('.')[2]}{signature}\n```\n"
    yield text(documented or value) + "\n"


def record(kind: type) -> Iterator[str]:
    """A value that calls give."""
    yield f"## {kind.__name__}\n\n{text(kind)}\n\n| field | type |\n| --- | --- |"
    for field in fields(kind):  # type: ignore[arg-type]
        yield f"| `{field.name}` | `{str(field.type).replace('|', chr(92) + '|')}` |"
    yield ""


def text(documented: Any) -> str:
    """A docstring as Markdown: its sections are lists."""
    lines = inspect.cleandoc(documented.__doc__ or "").splitlines()
    said, section = [], False
    for line in lines:
        if re.fullmatch(r"(Args|Raises|Returns|Attributes):", line):
            section = True
            said.append(f"**{line[:-1]}**\n")
        elif section and re.match(r"    \S", line):
            name, _, rest = line.strip().partition(": ")
            said.append(f"- `{name}`: {rest}" if rest else f"- {name}")
        elif section and line.strip():
            said[-1] += f" {line.strip()}"
        else:
            section = section and not line
            said.append(line)
    return "\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    written = page().rstrip() + "\n"
    if not parser.parse_args().check:
        TARGET.write_text(written)
    elif not TARGET.exists() or TARGET.read_text() != written:
        sys.exit(f"{TARGET} differs from the code: run `make generate`")


main()
