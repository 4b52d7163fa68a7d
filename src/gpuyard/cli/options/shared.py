"""Options that several commands share, spelt and explained once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Function = TypeVar("Function", bound=Callable[..., Any])
_LAST_IS_MEANT = "gpuyard.last"


class Span(click.ParamType[int]):
    """A span of time such as 90s, 1h30m or 2d, in whole seconds; a number needs its unit, as in a spec."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Reads it."""
        if isinstance(value, int):
            return value
        from gpuyard.workloads.spec.time_spans import parse_span

        try:
            return int(parse_span(value).total_seconds())
        except ValueError as error:
            self.fail(str(error), param, ctx)


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
        shell_complete=complete_contexts,
        help="A context of your kubeconfig instead of the yard (see `gpuyard use`).",
    )(function)


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of runs for the shell's completion, without those that are named already."""
    from gpuyard.cli.options.completion import run_names

    named = ctx.params.get("names") or ()
    found = run_names(ctx.params.get("context"), ctx.params.get("namespace"))
    return [name for name in found if name.startswith(incomplete) and name not in named]


def complete_claims(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of claims for the shell's completion."""
    from gpuyard.cli.options.completion import claim_names

    found = claim_names(ctx.params.get("context"), ctx.params.get("namespace"))
    return [name for name in found if name.startswith(incomplete)]


def complete_nodes(ctx: click.Context, param: click.Parameter | None, incomplete: str) -> list[str]:
    """Names of nodes for the shell's completion."""
    from gpuyard.cli.options.completion import node_names

    return [name for name in node_names(ctx.params.get("context")) if name.startswith(incomplete)]


def complete_contexts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The yard and the kubeconfig's contexts for the shell's completion."""
    from gpuyard.runs.target import YARD

    yard = [YARD] if YARD.startswith(incomplete) else []
    return [*yard, *complete_clusters(ctx, param, incomplete)]


def complete_clusters(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The kubeconfig's contexts alone, where a command is for clusters only."""
    from gpuyard.cli.options.completion import contexts

    return [name for name in contexts() if name.startswith(incomplete)]


def complete_scripts(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files, from the folder where the run is to be; the shell looks for them where that is its own."""
    from click.shell_completion import CompletionItem

    from gpuyard.cli.options.completion import files_in
    from gpuyard.cli.options.spec import flags_of

    workdir = next((str(flag.value) for flag in flags_of(ctx) if flag.path == ("workdir",)), "")
    if not workdir:
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in files_in(workdir, incomplete)]


def complete_folders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Folders, as the shell finds them."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


def complete_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files, as the shell finds them."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def run_argument(function: Function) -> Function:
    """The NAME of one run, its beginning, or `--last`."""
    return _last_option(
        click.argument(
            "name", metavar="NAME", required=False, shell_complete=complete_runs, callback=_one_run
        )(function)
    )


def run_arguments(*, required: bool = True, metavar: str = "NAME...") -> Callable[[Function], Function]:
    """The `names` of runs, as `run_argument` has one."""

    def add(function: Function) -> Function:
        def read(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
            found = (*value, _last()) if ctx.meta.get(_LAST_IS_MEANT) else value
            return found if found or not required else _missing(ctx, param)

        named = click.argument(
            "names", metavar=metavar, nargs=-1, shell_complete=complete_runs, callback=read
        )
        return _last_option(named(function))

    return add


def run_and_command(function: Function) -> Function:
    """The `name` of one run, its beginning or `--last`, and behind it the `command_line` that is for it."""

    def read(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
        words = (_last(), *value) if ctx.meta.get(_LAST_IS_MEANT) else value
        if not words:
            _missing(ctx, param)
        if len(words) < 2 and not ctx.resilient_parsing:
            raise click.UsageError("Say what to run: gpuyard exec NAME -- COMMAND.", ctx)
        ctx.params["name"] = words[0] if words else ""
        return words[1:]

    return _last_option(
        click.argument(
            "command_line",
            metavar="NAME -- COMMAND...",
            nargs=-1,
            shell_complete=_complete_run_first,
            callback=read,
        )(function)
    )


def rank_option(function: Function) -> Function:
    """`--rank`: which of a run's pods."""
    return click.option(
        "--rank",
        type=click.IntRange(min=0),
        metavar="K",
        help="Of several pods, this one's, from 0 (default: 0).",
    )(function)


def _complete_run_first(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    words = ctx.params.get("command_line") or ()
    return [] if words or ctx.meta.get(_LAST_IS_MEANT) else complete_runs(ctx, param, incomplete)


def _one_run(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    if ctx.meta.get(_LAST_IS_MEANT):
        if value:
            raise click.UsageError("Name a run, or say --last.", ctx)
        return _last()
    return value or _missing(ctx, param)


def _last() -> str:
    from gpuyard.runs.run import LAST

    return LAST


def _missing(ctx: click.Context, param: click.Parameter) -> Any:
    if ctx.resilient_parsing:
        return None
    raise click.MissingParameter(ctx=ctx, param=param)


def _last_option(function: Function) -> Function:
    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        ctx.meta[_LAST_IS_MEANT] = value

    return click.option(
        "-l", "--last", is_flag=True, is_eager=True, expose_value=False, callback=remember,
        help="The run that was submitted last. So is @ as a name; and the beginning of a name will do.",
    )(function)  # fmt: skip
