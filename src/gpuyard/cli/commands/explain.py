"""`gpuyard explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuyard.cli.options.registry import registry_options
from gpuyard.cli.options.shared import output_option, run_argument, target_options

if TYPE_CHECKING:
    from gpuyard.runs.explaining.explanation import Answer
    from gpuyard.runs.services.explaining import ServiceAnswer
    from gpuyard.runs.target import Target


@click.command(
    "explain",
    epilog="""\b
Examples:
  gpuyard explain train-x7k2q
  gpuyard explain train-x7k2q -o json
  gpuyard explain job/NAME
""",
)
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
    """Say what holds a run or a service: quota, admission, nodes, volumes, image, devices, its start, probes,
    or how its process ended; with the proof, whose it is, and the smallest change that would let it go on.
    """
    from gpuyard.cli.call import call
    from gpuyard.cli.options.registry import registry_environ
    from gpuyard.cli.output.results import print_json, print_wrapped
    from gpuyard.runs.explaining.explanation import explain_with_output
    from gpuyard.runs.meant import find_meant_or_others
    from gpuyard.runs.run import Run

    async def work(target: Target) -> tuple[Answer | ServiceAnswer, str]:
        run = await find_meant_or_others(target, name)
        if not isinstance(run, Run):
            from gpuyard.runs.services.explaining import explain_service

            environ = registry_environ(plain_http, registry_ca)
            return await explain_service(target, run, environ), ""
        answer = await explain_with_output(target, run, registry_environ(plain_http, registry_ca))
        return answer, _where_output_is(target, name, answer)

    answer, output_is = call(work, context=context, namespace=namespace)
    if output == "json":
        print_json(answer.to_json())
        return
    for line in answer.lines():
        print_wrapped(line)
    if output_is:
        print_wrapped(f"its output: {output_is}")


def _where_output_is(target: Target, name: str, answer: Answer) -> str:
    """The command that prints what a run that has ended has printed; empty for others."""
    if answer.run.state.state not in ("failed", "stopped") or answer.run.state.exit_code is None:
        return ""
    if "/" not in name:
        return target.command("logs", answer.run.name)
    pods = [pod["metadata"]["name"] for pod in answer.run.pods]
    return f"kubectl logs {pods[-1]} -n {target.namespace}" if pods else "there is none"
