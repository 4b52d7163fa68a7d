"""`gpuyard attach`."""

from __future__ import annotations

import click

from gpuyard.cli.options.shared import rank_option, run_argument, target_options


@click.command(
    "attach",
    epilog="""\b
Examples:
  gpuyard attach train-x7k2q           # what it prints from now on
  gpuyard attach --rank 1 train-x7k2q

\b
Ctrl-P Ctrl-Q leaves a terminal, Ctrl-C what has none: the run goes on.
Exit code: that of the run's process.
""",
)
@run_argument
@target_options
@rank_option
def command(name: str, context: str | None, namespace: str | None, rank: int | None) -> None:
    """Connect to a run's own process, with what it prints from now on.

    A process that was made with a terminal has yours; one that was made with standard input gets what is
    typed or piped. Runs of `gpuyard run` have neither: what they printed before is in `gpuyard logs`.
    """
    import sys

    from gpuyard.cli.attachment import attached, say_end
    from gpuyard.cli.call import call
    from gpuyard.cli.output.notices import print_notice
    from gpuyard.cli.terminal import open_console
    from gpuyard.runs.interactive.command import attach_to, end_of
    from gpuyard.runs.interactive.live_pod import LivePod, live_pod
    from gpuyard.runs.notices import Notice
    from gpuyard.runs.run import find_meant_run
    from gpuyard.runs.target import Target

    async def connect(target: Target, pod: LivePod) -> int:
        async with open_console(stdin=pod.has_stdin, tty=pod.has_tty, detachable=True) as console:
            await attach_to(target, pod, console)
        # Its pod may have more to do; meanwhile Ctrl-C leaves it, also in what was a raw terminal.
        end = await end_of(target, pod)
        assert end is not None
        say_end(end, tty=console.streams.tty)
        return end.exit_code

    async def work(target: Target) -> int:
        pod = live_pod(target, await find_meant_run(target, name, ask_nodes=False), rank)
        which = pod.run if pod.rank is None else f"{pod.run}, rank {pod.rank}"
        if pod.has_stdin and pod.rank is not None:
            print_notice(Notice(f"this is {which}"))
        if not pod.has_stdin:
            what = "it takes no input, and this is what it prints from now on"
            print_notice(Notice(f"{which}: {what} (all of it: {target.command('logs', pod.run)})"))
        return await attached(target, pod.run, connect(target, pod), ours=False, again=("attach",))

    sys.exit(call(work, context=context, namespace=namespace))
