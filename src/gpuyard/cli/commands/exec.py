"""`gpuyard exec`."""

from __future__ import annotations

import click

from gpuyard.cli.options.shared import rank_option, run_and_command, target_options


@click.command(
    "exec",
    epilog="""\b
Examples:
  gpuyard exec train-x7k2q -- nvidia-smi
  gpuyard exec train-x7k2q -- bash         # a terminal, as stdin and stdout are one
  gpuyard exec -l --rank 1 -- py-spy dump --pid 1
  gpuyard exec train-x7k2q -- sh -c 'cat >> notes.txt' < more.txt

\b
Exit code: that of the command; 127 where there is no such program.
""",
)
@run_and_command
@target_options
@rank_option
@click.option("-i", "--stdin", is_flag=True, help="Connect standard input whatever it is.")
@click.option("-t", "as_kubectl", is_flag=True, hidden=True)
def command(
    name: str,
    command_line: tuple[str, ...],
    context: str | None,
    namespace: str | None,
    rank: int | None,
    stdin: bool,
    as_kubectl: bool,
) -> None:
    """Run a command inside a run or a replica of a service, beside its own process.

    It has a terminal where standard input and output are one; else standard input where that is a pipe or a
    file.
    """
    import sys

    from gpuyard.cli.attachment import say_end
    from gpuyard.cli.call import call
    from gpuyard.cli.terminal import has_input, open_console
    from gpuyard.runs.interactive.command import end_of_killed, exec_in
    from gpuyard.runs.meant import find_meant_pod
    from gpuyard.runs.target import Target

    async def work(target: Target) -> int:
        pod = await find_meant_pod(target, name, rank)
        async with open_console(stdin=stdin or has_input()) as console:
            code = await exec_in(target, pod, command_line, console)
        if end := await end_of_killed(target, pod, code):
            say_end(end, tty=console.streams.tty)
        return code

    sys.exit(call(work, context=context, namespace=namespace))
