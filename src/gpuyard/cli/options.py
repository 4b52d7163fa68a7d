"""Options that several commands share, spelt and explained once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def output_option(*formats: str) -> Callable[[Function], Function]:
    """`-o`, with `json` first; without it a command prints for people."""
    choices = formats or ("json",)
    return click.option(
        "-o",
        "--output",
        type=click.Choice(choices),
        default=None,
        help="Print for machines instead of people.",
    )


def target_options(function: Function) -> Function:
    """`--context` and `--namespace`: where the command goes."""
    function = click.option(
        "--namespace", metavar="NAMESPACE", default=None, help="Namespace (default: the context's own)."
    )(function)
    return click.option(
        "--context",
        metavar="CONTEXT",
        default=None,
        help="A context of your kubeconfig instead of the yard (see `gpuyard use`).",
    )(function)


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of runs for the shell's completion; nothing when the API doesn't answer."""
    from gpuyard import errors
    from gpuyard.cli.runs import list_runs
    from gpuyard.cli.target import call

    async def names(target: Any) -> list[str]:
        return [run.name for run in await list_runs(target)]

    try:
        found = call(names, context=ctx.params.get("context"), namespace=ctx.params.get("namespace"))
    except errors.GpuyardError:
        return []
    return [name for name in found if name.startswith(incomplete)]


def run_argument(function: Function) -> Function:
    """The NAME of one run."""
    return click.argument("name", shell_complete=complete_runs)(function)
