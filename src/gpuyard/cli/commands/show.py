"""`gpuyard show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpuyard.cli.options import output_option, run_argument, target_options

if TYPE_CHECKING:
    from gpuyard.explain.output.diagnosis import Diagnosis


@click.command("show", epilog="\b\nExample:\n  gpuyard show train-x7k2q -o json\n")
@run_argument
@target_options
@output_option()
def command(name: str, context: str | None, namespace: str | None, output: str | None) -> None:
    """Show everything known about one run: command, state, attempts, devices, isolation, events."""
    import asyncio

    from gpuyard.cli.call import call
    from gpuyard.cli.describe import describe, to_json
    from gpuyard.cli.diagnosis import print_diagnoses
    from gpuyard.cli.output import print_json
    from gpuyard.kube.objects import EVENTS, Manifest, uid_of
    from gpuyard.runs.diagnosis import diagnose_run
    from gpuyard.runs.run import Run, find_run, gpu_models
    from gpuyard.runs.target import Target

    async def work(target: Target) -> tuple[Run, list[Manifest], list[Diagnosis], dict[str, str]]:
        run = await find_run(target, name)
        uids = [uid_of(run.job), *(uid_of(pod) for pod in run.pods)]
        listed = await asyncio.gather(
            *(
                target.api.list(EVENTS, target.namespace, field_selector=f"involvedObject.uid={uid}")
                for uid in uids
            )
        )
        events = [event for one in listed for event in one.items]
        models = await gpu_models(target, run.state.nodes)
        return run, events, await diagnose_run(target, run), models

    run, events, found, models = call(work, context=context, namespace=namespace)
    if output == "json":
        print_json({**to_json(run, events), "diagnoses": [diagnosis.to_json() for diagnosis in found]})
    else:
        describe(run, events, models)
        if found:
            click.echo("\nDiagnosis:")
        print_diagnoses(found)
