"""`gpuyard cp`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuyard.cli.options.shared import complete_runs, rank_option, target_options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    names = [] if ":" in incomplete or "/" in incomplete else complete_runs(ctx, param, incomplete)
    return [*(CompletionItem(f"{name}:") for name in names), CompletionItem(incomplete, type="file")]


@click.command(
    "cp",
    epilog="""\b
Examples:
  gpuyard cp train-x7k2q:/ckpt/last.pt .
  gpuyard cp --rank 1 train-x7k2q:/ckpt ./ckpt-of-rank-1
  gpuyard cp settings.json @:/tmp/           # to the run that was submitted last
  gpuyard cp train-x7k2q:out .               # from the folder where it runs
""",
)
@click.argument("source", metavar="SOURCE", shell_complete=_complete)
@click.argument("destination", metavar="DESTINATION", shell_complete=_complete)
@target_options
@rank_option
def command(
    source: str, destination: str, context: str | None, namespace: str | None, rank: int | None
) -> None:
    """Copy a file or a folder out of a run that goes on, or into it.

    One of the two is NAME:PATH: the name of a run or service, its beginning, or @ for the last one. A
    destination that is a folder gets the copy inside. Nothing half is ever under its final name; modes and
    times stay, and the owner is who writes. What changes while it is copied is told, with exit code 1; a
    single file isn't kept then. It takes sh and tar in the run's image.
    """
    from gpuyard.cli.call import call
    from gpuyard.cli.output.notices import print_notice
    from gpuyard.cli.output.progress import BuildProgress
    from gpuyard.cli.output.results import megabytes
    from gpuyard.runs.interactive.copying import CopyResult, copy_from, copy_to
    from gpuyard.runs.meant import find_meant_pod
    from gpuyard.runs.notices import Notice
    from gpuyard.runs.target import Target

    (name, path), is_from = _run_and_path(source, destination)
    shown = BuildProgress()

    def progress(done: int, total: int) -> None:
        shown.bytes(f"copying {path}", done, total)

    async def work(target: Target) -> CopyResult:
        pod = await find_meant_pod(target, name, rank)
        if is_from:
            return await copy_from(target, pod, path, Path(destination), progress)
        return await copy_to(target, pod, Path(source), path, progress)

    try:
        copied = call(work, context=context, namespace=namespace)
    finally:
        shown.done()
    for note in copied.notes:
        print_notice(Notice(f"left out: {note}"))
    for change in copied.changed:
        print_notice(Notice(f"changed while it was copied: {change}"))
    click.echo(
        f"Copied {megabytes(copied.size_bytes)} to {copied.path if is_from else f'{name}:{path}'}", err=True
    )
    if copied.changed:
        click.get_current_context().exit(1)


def _run_and_path(source: str, destination: str) -> tuple[tuple[str, str], bool]:
    """The run and the path in it, and whether it is copied from there."""
    of_run = [_split(source), _split(destination)]
    match of_run:
        case [tuple() as found, None]:
            return found, True
        case [None, tuple() as found]:
            return found, False
    both = "both are in runs" if of_run[0] else "neither is in a run"
    raise click.UsageError(f"{both}: one of the two is NAME:PATH, such as train-x7k2q:/ckpt/last.pt.")


def _split(text: str) -> tuple[str, str] | None:
    """`NAME:PATH`; a path of this machine that has a colon has a slash before it, such as ./a:b."""
    name, colon, path = text.partition(":")
    return (name, path or ".") if colon and name and "/" not in name else None
