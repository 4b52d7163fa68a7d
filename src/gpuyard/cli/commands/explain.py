"""`gpuyard explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuyard.cli.options import output_option, run_argument, target_options
from gpuyard.cli.registry_options import registry_options

if TYPE_CHECKING:
    from gpuyard.images.cuda.diagnose import Diagnosis
    from gpuyard.scheduling.explain import Explanation


@click.command("explain", epilog="\b\nExample:\n  gpuyard explain train-x7k2q\n")
@run_argument
@target_options
@registry_options
@output_option()
def command(
    name: str,
    context: str | None,
    namespace: str | None,
    plain_http: tuple[str, ...],
    registry_ca: Path | None,
    output: str | None,
) -> None:
    """Say what a run waits for: the step that holds it, the arithmetic of each node, who holds the
    GPUs, and the smallest change that would let it run now. Of a failed run, what its output says of GPUs."""
    from gpuyard.cli import diagnosis
    from gpuyard.cli.compatibility import unfit_lines
    from gpuyard.cli.follow import state_text
    from gpuyard.cli.output import print_json
    from gpuyard.cli.registry_options import registry_environ
    from gpuyard.cli.runs import Run, find_run
    from gpuyard.cli.target import Target, call
    from gpuyard.cli.waiting import explain_run, pull_lines

    async def work(target: Target) -> tuple[Run, Explanation | None, list[Diagnosis], list[str], str]:
        run = await find_run(target, name)
        found = await diagnosis.diagnose_run(target, run)
        logs = target.command("logs", name)
        if run.state.state != "pending" or run.job["spec"].get("suspend"):
            return run, None, found, pull_lines(target, run), logs
        explanation, nodes = await explain_run(target, run)
        environ = registry_environ(plain_http, registry_ca)
        return run, explanation, found, await unfit_lines(run.job, nodes, environ), logs

    run, explanation, found, unfit, logs = call(work, context=context, namespace=namespace)
    if output == "json":
        state = run.state.to_json()
        print_json(
            {
                "run": state,
                "explanation": explanation.to_json() if explanation else None,
                "diagnoses": diagnosis.to_json(found),
            }
        )
        return
    click.echo(state_text(run))
    for line in [*(explanation.lines() if explanation else ()), *unfit]:
        click.echo(line)
    diagnosis.print_diagnosis(found)
    if run.job["spec"].get("suspend") and run.state.state == "pending":
        click.echo("  somebody suspended its Job; to let it go on:")
        click.echo(f"""  kubectl patch job {name} -p '{{"spec":{{"suspend":false}}}}'""")
    if explanation is None and run.state.state in ("failed", "stopped"):
        click.echo(f"  its output: {logs}")
