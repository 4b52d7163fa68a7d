"""Writes docs/reference/commands.md from the command line itself. With --check, says whether it differs."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from gpuyard.cli.main import COMMANDS, cli

TARGET = Path(__file__).resolve().parent.parent / "docs/reference/commands.md"

HEAD = """\
# Commands

<!-- Written by tools/generate_commands.py from the commands themselves. -->

Every command has `-h`/`--help`. Results go to standard output, everything that gpuyard says about them to
standard error. With `-o json` standard output is one JSON document, see [JSON output](json.md); that of `run`
is followed by the run's own output, unless `-d` detaches.

## Exit codes

| code | meaning |
| --- | --- |
| 0 | done; also when Ctrl-C detached from a run that goes on |
| 1 | it couldn't be done: the yard is stopped, the API said no, a file can't be written |
| 2 | misuse, and nothing was submitted: see below |
| 124 | `wait --timeout` is over; or a run was over its `--timeout`, and its process has no code but 0 |
| 125 | a run failed or was stopped, and its process has no code but 0; `run`: or gpuyard itself failed |
| 130 | Ctrl-C before there was anything to detach from |
| any | `run`, `wait` and `logs -f` end with the code of the run's last process, 128+n for signal n |

A run that ended without success never gives 0, also where its process saved on SIGTERM and ended well.
Misuse is a wrong option or spec, a file that isn't there, a name that is taken or unknown, and a run that no
node could ever run. A process's own code can be any of these numbers, too: `gpuyard show NAME -o json` tells.

## Where commands go

To this machine's yard, unless `--context` names a context of your kubeconfig or `gpuyard use` has chosen one;
`--context yard` is the yard again. `up`, `down` and `kubeconfig` are about the yard always; `install` and
`uninstall` are about clusters. Only `up` and `run` start a yard; the others say that it is stopped.
"""


def page() -> str:
    """The whole page."""
    context = click.Context(cli, info_name="gpuyard")
    parts = [HEAD]
    for section in dict.fromkeys(section for section, _ in COMMANDS.values()):
        parts.append(f"## {section}\n")
        for name in (name for name, (where, _) in COMMANDS.items() if where == section):
            command = cli.get_command(context, name)
            assert command is not None
            parts.append("\n".join(describe(command, click.Context(command, context, name))))
    return "\n".join(parts)


def describe(command: click.Command, context: click.Context, group: str = "") -> Iterator[str]:
    """The lines of one command; of a group's, its subcommands' too."""
    usage = " ".join(command.collect_usage_pieces(context))
    name = f"{group} {command.name}".strip()
    yield f"{'####' if group else '###'} {name}\n"
    yield f"`gpuyard {name} {usage}`\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    options = [
        p
        for p in command.get_params(context)
        if isinstance(p, click.Option) and "--help" not in p.opts and not p.hidden
    ]
    if options:
        yield "| option | |\n| --- | --- |"
        for option in options:
            yield f"| {spelling(option, context)} | {cell(option.help or '')} |"
        yield ""
    if command.epilog:
        yield from epilog(command.epilog)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            subcommand = command.get_command(context, inner)
            assert subcommand is not None
            yield from describe(subcommand, click.Context(subcommand, context, inner), name)


def spelling(option: click.Option, context: click.Context) -> str:
    """`-f`, `--file PATH`."""
    *short, long = option.opts
    value = "" if option.is_flag else " " + option.make_metavar(context)
    repeated = " (repeatable)" if option.multiple else ""
    return cell(", ".join([*(f"`{name}`" for name in short), f"`{long}{value}`"]) + repeated)


def cell(text: str) -> str:
    """Text inside a table."""
    return text.replace("|", "\\|")


def epilog(text: str) -> Iterator[str]:
    """Examples as a block, remarks as text. Paragraphs after `\\b` keep their lines, as in click."""
    for paragraph in text.replace("\b\n", "").strip("\n").split("\n\n"):
        head, _, rest = paragraph.partition("\n")
        if head in ("Example:", "Examples:"):
            yield "```sh\n" + inspect.cleandoc(rest) + "\n```\n"
        else:
            yield paragraph + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text = page()
    if TARGET.is_file() and TARGET.read_text() == text:
        return 0
    if check:
        print(f"{TARGET} differs from what tools/generate_commands.py writes", file=sys.stderr)
        return 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
