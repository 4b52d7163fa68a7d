"""`gpuyard show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpuyard.cli.options.shared import output_option, run_argument, target_options

if TYPE_CHECKING:
    from gpuyard.runs.services.service_description import ServiceDescription
    from gpuyard.runs.target import Target


@click.command("show", epilog="\b\nExample:\n  gpuyard show train-x7k2q -o json\n")
@run_argument
@target_options
@output_option()
def command(name: str, context: str | None, namespace: str | None, output: str | None) -> None:
    """Show everything known about one run or service: command, state, attempts or replicas, devices,
    isolation, events."""
    from gpuyard.cli.call import call
    from gpuyard.cli.output.describe import print_description
    from gpuyard.cli.output.results import print_json
    from gpuyard.runs.description import Description, describe_run
    from gpuyard.runs.meant import find_meant
    from gpuyard.runs.run import Run

    async def work(target: Target) -> Description | ServiceDescription:
        found = await find_meant(target, name, ask_nodes=True)
        if isinstance(found, Run):
            return await describe_run(target, found)
        from gpuyard.runs.services.service_description import describe_service

        return await describe_service(target, found)

    found = call(work, context=context, namespace=namespace)
    if output == "json":
        print_json(found.to_json())
    elif isinstance(found, Description):
        print_description(found)
    else:
        from gpuyard.cli.service_output import print_service

        print_service(found)
