"""`gpuyard`: finds the command, runs it, and turns errors into one screen and an exit code."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

import click

from gpuyard import __version__, errors
from gpuyard.cli.output.terminal_text import make_streams_plain

#: name → (section, one line of help). The line is here so that `--help` imports no command.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("Runs", "Run a script or command on GPUs and follow its output."),
    "shell": ("Runs", "Open a shell on a GPU, in a run that ends with the terminal."),
    "ps": ("Runs", "List runs and their states."),
    "logs": ("Runs", "Print a run's output."),
    "show": ("Runs", "Show everything known about one run."),
    "explain": ("Runs", "Say what a run waits for, and what would let it go."),
    "events": ("Runs", "Show what Kubernetes did with a run: events of its Job, pods and claims."),
    "exec": ("Runs", "Run a command inside a run, in a terminal where yours is one."),
    "attach": ("Runs", "Connect to a run's own process, in a terminal where it has one."),
    "cp": ("Runs", "Copy files and folders out of a run that goes on, or into it."),
    "forward": ("Runs", "Make ports of a run reachable from this machine."),
    "wait": ("Runs", "Wait until runs have ended; the exit code is theirs."),
    "stop": ("Runs", "Stop a run; its logs and exit code stay."),
    "scale": ("Runs", "Give an elastic run or a service more pods, or fewer."),
    "rm": ("Runs", "Remove runs with their logs."),
    "volume": ("Runs", "List and remove claims: data that outlives runs."),
    "serve": ("Services", "Serve a model: replicas of a program behind one address."),
    "update": ("Services", "Change a service without losing a request."),
    "rollback": ("Services", "Take a service back to an earlier revision."),
    "build": ("Images", "Build an image from this folder and push it; no daemon, no root."),
    "image": ("Images", "Show, check and import images."),
    "up": ("Yard", "Start this machine's yard."),
    "down": ("Yard", "Stop this machine's yard."),
    "status": ("Yard", "Show the yard, or what is installed on a cluster."),
    "doctor": ("Yard", "Find out what is broken, on a yard or a cluster."),
    "nodes": ("Yard", "List nodes and their GPUs."),
    "node": ("Yard", "Show every GPU of nodes: health, links, MIG, who has it."),
    "top": ("Yard", "Watch what nodes, GPUs and runs do."),
    "kubeconfig": ("Yard", "Print the path of a kubeconfig for the yard."),
    "install": ("Cluster", "Install the agents on a cluster, or change an install."),
    "uninstall": ("Cluster", "Remove gpuyard from a cluster."),
    "use": ("Settings", "Choose where commands go: the yard or a kubeconfig's context."),
    "completion": ("Settings", "Print the shell completion script."),
}

#: What other tools call it.
_MEANT = {
    "start": "up",
    "shutdown": "down",
    "list": "ps",
    "ls": "ps",
    "jobs": "ps",
    "queue": "ps",
    "submit": "run",
    "launch": "run",
    "kill": "stop",
    "cancel": "stop",
    "delete": "rm",
    "remove": "rm",
    "describe": "show",
    "volumes": "volume ls",
    "pvc": "volume ls",
    "inspect": "show",
    "port-forward": "forward",
    "proxy": "forward",
    "copy": "cp",
    "scp": "cp",
    "tail": "logs -f",
    "why": "explain",
    "gpus": "node",
    "htop": "top",
    "nvtop": "top",
    "nvidia-smi": "top",
    "info": "status",
    "check": "doctor",
    "diagnose": "doctor",
}

#: Objects that are made between two searches for garbage; Python's default is 700.
_GARBAGE_AFTER = 50_000

EPILOG = """\b
Examples:
  gpuyard up --simulate H100:8
  gpuyard run train.py --gpus 2 -- --epochs 3
  gpuyard run --gpus 2 -- torchrun --nproc_per_node=2 train_ddp.py
  gpuyard ps
"""


class LazyGroup(click.Group):
    """Imports a command's module when it is called, so that the others cost nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of COMMANDS."""
        return list(COMMANDS)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Takes `gpuyard help ps` as `gpuyard ps --help`."""
        return super().parse_args(ctx, [*args[1:], "--help"] if args[:1] == ["help"] else args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of `commands/NAME.py`."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gpuyard.cli.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Says what was probably meant when there is no such command."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = (
                [_MEANT[args[0]]] if args[0] in _MEANT else difflib.get_close_matches(args[0], COMMANDS, n=1)
            )
            hint = f" Did you mean {near[0]!r}?" if near else " `gpuyard --help` lists the commands."
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands by section without importing them."""
        for section in dict.fromkeys(section for section, _ in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl(
                    [(name, text) for name, (where, text) in COMMANDS.items() if where == section]
                )


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gpuyard", message="%(prog)s %(version)s")
def cli() -> None:
    """Take a PyTorch script to a scheduled GPU: on this machine, or on a Kubernetes cluster."""


def _check_text(arguments: Sequence[str]) -> None:
    """Raises for an argument that is no UTF-8: the API takes only text."""
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise errors.UsageError(
                f"the argument {os.fsencode(argument)!r} isn't text in UTF-8",
                remedy="rename what it names, or let the script put such bytes together itself",
            )


def _report_os_error(error: OSError) -> int:
    where = f" ({error.filename})" if error.filename else ""
    click.echo(f"Error: {error.strerror or error}{where}", err=True)
    try:
        os.getcwd()  # noqa: PTH109  pathlib would cost start-up time
        remedy = "check free space and permissions there"
    except OSError:
        remedy = "the current folder is gone: go to another one"
    click.echo(f"  {remedy}", err=True)
    return 1


def _give_up_output() -> None:
    """Drops what standard output didn't take (its reader left, its disk is full): that has been told, and the
    interpreter must not complain about it again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(code: int) -> NoReturn:
    """Ends the process as `sys.exit` does, but for taking the interpreter apart: that is an eighth of what a
    short command takes, and nothing is left to be done by it."""
    if threading.active_count() > 1:
        sys.exit(code)
    atexit._run_exitfuncs()
    os._exit(code & 0xFF)


def main() -> NoReturn:
    """The console script: never a traceback for what a user or the world did wrong."""
    # Imports make many objects, and none is garbage; a command that lasts is looked through all the same.
    gc.set_threshold(_GARBAGE_AFTER)
    make_streams_plain()
    try:
        _check_text(sys.argv)
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as leave:  # commands end with the code of a run so
        code = leave.code
    except click.exceptions.Exit as leave:
        code = leave.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        code = 0  # `gpuyard ps | head`: the reader left
    except OSError as error:
        # Nobody below said what it was for: the current folder is gone, a disk is full.
        code = _report_os_error(error)
    except RuntimeError as error:
        if "home directory" not in str(error):  # pathlib's words, wherever somebody asks for it
            raise
        said = f"HOME isn't set, and nobody knows user {os.getuid()}"
        click.echo(f"Error: there is no home folder: {said}", err=True)
        click.echo("  set HOME to a folder that you may write", err=True)
        code = 1
    except errors.GpuyardError as error:
        from gpuyard.cli.output.results import print_wrapped

        print_wrapped(f"Error: {error.message}", err=True)
        if error.remedy:
            print_wrapped(f"  {error.remedy}", rest="", err=True)
        code = error.exit_code
    _give_up_output()
    _leave(code if isinstance(code, int) else 0)
