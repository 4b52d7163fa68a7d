"""The sweep of a run as a whole: with the table of its file, checked against the command."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path

from gpuyard import errors
from gpuyard.runs.submitting.spec_file import read_spec_file
from gpuyard.workloads.command import split_run
from gpuyard.workloads.spec.run_spec import RunSpec
from gpuyard.workloads.sweeps.sweep import placeholders
from gpuyard.workloads.sweeps.values import Sweep, ValueTable, check_sweep, parse_table


def with_whole_sweep(spec: RunSpec, base: Path) -> RunSpec:
    """The run with all of its tasks.

    Args:
        spec: with a sweep, a file of one, or both: each row of the file is then combined with each value.
        base: folder that the file's path starts from.

    Raises:
        UsageError: the file is none, there are too many tasks, or the command doesn't fit them.
    """
    tables = spec.sweep.tables if spec.sweep else ()
    if spec.sweep_file is not None:
        tables = (_read(base / Path(spec.sweep_file).expanduser()), *tables)
    sweep = Sweep(tables)
    try:
        check_sweep(sweep)
    except ValueError as error:
        raise errors.UsageError(f"sweep: {error}", remedy="see docs/how-to/sweep-parameters.md") from error
    _check_names(spec, sweep)
    return dataclasses.replace(spec, sweep=sweep)


def unused_names(spec: RunSpec) -> list[str]:
    """Those that no word of the command names: tasks find them only in their environment."""
    used = set(placeholders(_words(spec)))
    return [name for name in (spec.sweep.names if spec.sweep else ()) if name not in used]


def _read(file: Path) -> ValueTable:
    content = read_spec_file(file, "a table in CSV")
    try:
        return parse_table(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise errors.UsageError(
            f"{file} isn't text in UTF-8 (byte {error.start})", remedy="write it as CSV in UTF-8"
        ) from error
    except ValueError as error:
        raise errors.UsageError(
            f"{file} {error}", remedy="write names in the first line, and a task in each further one"
        ) from error


def _check_names(spec: RunSpec, sweep: Sweep) -> None:
    if both := [name for name in sweep.names if name in spec.env]:
        raise errors.UsageError(
            f"{both[0]} is swept, and set in the environment, too",
            remedy="leave one of the two out, or name them differently",
        )
    if unknown := [name for name in placeholders(_words(spec)) if name not in sweep.names]:
        name = unknown[0]
        near = difflib.get_close_matches(name, sweep.names, n=1)
        meant = f"did you mean {{{near[0]}}}? " if near else ""
        raise errors.UsageError(
            f"the command has {{{name}}}, and no value of the sweep is called so",
            remedy=f"{meant}there are: {', '.join(sweep.names)}; {{{{{name}}}}} keeps the braces",
        )
    if isinstance(spec.run, str) and split_run(spec.run, spec.shell)[-1] == spec.run:
        # A value in a line for a shell would be read as a part of that.
        line = [name for name in placeholders([spec.run]) if name in sweep.names]
        if line:
            raise errors.UsageError(
                f"a shell runs this line, and {{{line[0]}}} in it would be read as its syntax",
                remedy=f'write "${line[0]}" there: each task has its values as variables',
            )


def _words(spec: RunSpec) -> tuple[str, ...]:
    """Of the command, but for a line that a shell runs, whose braces are the shell's."""
    words = split_run(spec.run, spec.shell)
    return words[:0] if isinstance(spec.run, str) and words[-1] == spec.run else words
