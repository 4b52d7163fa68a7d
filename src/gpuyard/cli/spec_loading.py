"""The spec of a command: its file, with its options laid over that."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gpuyard.cli.options.spec import flags_of
from gpuyard.cli.output.notices import print_notice
from gpuyard.runs.submitting.spec_file import read_spec_file, unexpanded
from gpuyard.workloads.spec.env_file import parse_env_file
from gpuyard.workloads.spec.overrides import Flag
from gpuyard.workloads.spec.run_spec import RunSpec, load_spec


def load_run_spec(command_line: tuple[str, ...], file: Path | None, env_files: tuple[Path, ...]) -> RunSpec:
    """The spec of the current command: its file with the options laid over it."""
    if not command_line and file is None:
        raise click.UsageError("Name a script, a command after `--`, or a spec file with -f.")
    text = read_spec_file(file) if file is not None else None
    flags = load_flags(command_line, env_files)
    return load_spec(text, str(file) if file else "the command line", flags, os.environ)


def load_flags(command_line: tuple[str, ...], env_files: tuple[Path, ...]) -> list[Flag]:
    """What the current command lays over a spec file."""
    flags = [
        flag
        for path in env_files
        for flag in parse_env_file(read_spec_file(path, "a file of K=V"), str(path))
    ]
    flags += flags_of(click.get_current_context())
    for notice in unexpanded(flags):
        print_notice(notice)
    if command_line:
        is_line = len(command_line) == 1 and any(flag.path == ("shell",) for flag in flags)
        flags.append(Flag("the command", ("run",), command_line[0] if is_line else command_line))
    return flags
