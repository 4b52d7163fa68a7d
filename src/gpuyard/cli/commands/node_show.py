"""`gpuyard node show`, which is also `gpuyard node`."""

from __future__ import annotations

import click

from gpuyard.cli.options.shared import complete_nodes, output_option, target_options


@click.command(
    "show",
    epilog="""\b
Examples:
  gpuyard node
  gpuyard node gpu-node-1
  gpuyard node -o json | jq '.[].gpus[] | select(.fault) | .uuid'
""",
)
@click.argument("name", metavar="[NODE]", required=False, shell_complete=complete_nodes)
@target_options
@output_option()
def command(name: str | None, context: str | None, namespace: str | None, output: str | None) -> None:
    """Show every GPU: model, memory, links, NUMA, health, MIG, sharing, who has it, and who else is there.

    It is read from nodes, pods and the metrics of the nodes' agents.
    """
    from gpuyard.cli.call import call
    from gpuyard.cli.output.node_report import print_node
    from gpuyard.cli.output.results import print_json
    from gpuyard.runs.nodes.fleet import read_fleet

    fleet = call(lambda target: read_fleet(target, name), context=context, namespace=namespace)
    if output == "json":
        print_json([node.to_json() for node in fleet.nodes])
        return
    if not fleet.nodes:
        click.echo("No node has GPUs.", err=True)
    for number, node in enumerate(fleet.nodes):
        if number:
            click.echo()
        print_node(node)
    if fleet.partial:
        click.echo(f"\n{fleet.partial}", err=True)
