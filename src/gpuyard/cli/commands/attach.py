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

    from gpuyard.cli.attachment import attached
    from gpuyard.cli.call import call
    from gpuyard.cli.output.notices import print_notice
    from gpuyard.cli.terminal import open_console
    from gpuyard.runs.interactive.command import attach_to
    from gpuyard.runs.interactive.live_pod import LivePod, live_pod
    from gpuyard.runs.notices import Notice
    from gpuyard.runs.run import find_meant_run
    from gpuyard.runs.target import Target

    async def connect(target: Target, pod: LivePod) -> int:
        async with open_console(stdin=pod.has_stdin, tty=pod.has_tty, detachable=True) as console:
            return await attach_to(target, pod, console)

    async def work(target: Target) -> int:
        pod = live_pod(target, await find_meant_run(target, name, ask_nodes=False), rank)
        if not pod.has_stdin:
            what = "it takes no input, and this is what it prints from now on"
            print_notice(Notice(f"{pod.run}: {what} (all of it: {target.command('logs', pod.run)})"))
        return await attached(target, pod.run, connect(target, pod), ours=False, again=("attach",))

    sys.exit(call(work, context=context, namespace=namespace))
