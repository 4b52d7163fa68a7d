"""`gpuyard show`."""

from __future__ import annotations

import click

from gpuyard.cli.options.shared import output_option, run_argument, target_options


@click.command("show", epilog="\b\nExample:\n  gpuyard show train-x7k2q -o json\n")
@run_argument
@target_options
@output_option()
def command(name: str, context: str | None, namespace: str | None, output: str | None) -> None:
    """Show everything known about one run: command, state, attempts, devices, isolation, events."""
    from gpuyard.cli.call import call
    from gpuyard.cli.output.describe import print_description
    from gpuyard.cli.output.results import print_json
    from gpuyard.runs.description import describe_run

    found = call(lambda target: describe_run(target, name), context=context, namespace=namespace)
    if output == "json":
        print_json(found.to_json())
    else:
        print_description(found)
