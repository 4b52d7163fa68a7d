"""`gpuyard up`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from gpuyard import errors
from gpuyard.cli.options.gpu_backend import gpu_backend_option
from gpuyard.cli.options.gpu_config import gpu_config_option, read_gpu_config
from gpuyard.cli.options.shared import output_option
from gpuyard.cli.output.results import StatusLine, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuyard.local import lifecycle
    from gpuyard.local.paths import YardPaths

_Given = TypeVar("_Given")
_REASON_WAIT_S = 2.0
_REASON_POLL_S = 0.1


@click.command(
    "up",
    epilog="""\b
Examples:
  gpuyard up                       # this machine's GPUs
  gpuyard up --simulate H100:8     # eight simulated ones; kept for the next start
  gpuyard up --simulate H100:8,A100:4     # two nodes, to try out runs over several
  gpuyard up --no-simulate         # back to the machine's own
  gpuyard up --share-with-others   # runs beside what others run on the GPUs
""",
)
@click.option(
    "--simulate",
    metavar="MODEL:COUNT[,…]",
    multiple=True,
    help="Simulate GPUs, such as H100:8; H100:8,A100:4 makes two nodes. Can be repeated.",
)
@click.option("--no-simulate", is_flag=True, help="Forget an earlier --simulate.")
@click.option(
    "--port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    help="Port of the HTTPS API on 127.0.0.1, kept for the next start; 0 takes a free one.",
)
@click.option(
    "--mig-strategy",
    type=click.Choice(["none", "single", "mixed"]),
    help="How parts of split GPUs are offered: not at all, as GPUs, or each profile as a resource; kept.",
)
@gpu_config_option
@click.option("--no-gpu-config", is_flag=True, help="Forget an earlier --gpu-config.")
@gpu_backend_option
@click.option("--no-gpu-backend", is_flag=True, help="Forget an earlier --gpu-backend.")
@click.option(
    "--share-with-others/--no-share-with-others",
    default=None,
    help="Give out GPUs, too, that processes of others are on; kept.",
)
@output_option()
def command(
    simulate: tuple[str, ...],
    no_simulate: bool,
    port: int | None,
    mig_strategy: str | None,
    gpu_config: Path | None,
    no_gpu_config: bool,
    share_with_others: bool | None,
    gpu_backend: str | None,
    no_gpu_backend: bool,
    output: str | None,
) -> None:
    """Start this machine's yard in the background.

    Choices are kept for the next start. A yard that runs already is left as it is; only an idle one without
    GPUs is started again for --simulate.
    """
    from gpuyard.local import lifecycle
    from gpuyard.local.paths import find_paths
    from gpuyard.local.settings import Choices, load_settings

    gpus = _choice("simulate", ",".join(simulate), no_simulate, checked_simulation)
    config = _choice("gpu-config", gpu_config, no_gpu_config, read_gpu_config)
    backend = _choice("gpu-backend", gpu_backend, no_gpu_backend, checked_backend)
    choices = Choices(gpus, port, mig_strategy, config, share_with_others, backend)
    paths = find_paths(os.environ)
    line = StatusLine()
    began = time.monotonic()

    def start() -> lifecycle.Started:
        try:
            return lifecycle.start(paths, choices, on_wait=lambda text: line.show(text + " …"))
        finally:
            line.clear()

    started = start()
    if not started.fresh:
        difference = lifecycle.differs(load_settings(paths.settings), choices)
        if difference and gpus and _serves_nothing(paths):
            lifecycle.stop(paths)
            started = start()
        elif difference:
            raise errors.YardBusy(
                f"the yard is up already, and {difference}",
                remedy="restart it: `gpuyard down --keep`, then this command again",
            )
    _say(started, time.monotonic() - began, as_json=output == "json")
    if output != "json":
        _say_which_gpus_there_are(paths)


def _say(started: lifecycle.Started, took_s: float, *, as_json: bool) -> None:
    yard, nodes = started.yard, list(started.yard.agents)
    if as_json:
        print_json({"api": yard.api, "node": yard.node, "nodes": nodes, "started": started.fresh})
        return
    took = f" in {took_s:.1f} s" if started.fresh else " already"
    named = f"node {yard.node}" if len(nodes) == 1 else f"nodes {', '.join(nodes)}"
    click.echo(f"The yard is up{took}: {named}, API {yard.api}")


def _choice(name: str, given: _Given | None, forgotten: bool, check: Callable[[_Given], str]) -> str | None:
    """What is to be kept from now on: empty when an earlier choice is forgotten, None when it stays."""
    if given and forgotten:
        raise click.UsageError(f"--{name} and --no-{name} contradict each other.")
    return check(given) if given else "" if forgotten else None


def _serves_nothing(paths: YardPaths) -> bool:
    """Whether a running yard has neither GPUs nor live runs: nobody minds when it is started again."""
    import asyncio

    from gpuyard.local.status import yard_status
    from gpuyard.local.survivors import live_pods

    return not asyncio.run(yard_status(paths)).gpus.capacity and not live_pods(paths.pods_dir)


def _say_which_gpus_there_are(paths: YardPaths) -> None:
    """Prints the agent's reason why there are none, which comes a moment after the node is ready; of several
    nodes what each has; and what is lacking."""
    import asyncio

    from gpuyard.local.status import yard_status

    due = time.monotonic() + _REASON_WAIT_S
    while not (status := asyncio.run(yard_status(paths))).gpus.capacity:
        if status.gpus.none_because or time.monotonic() > due:
            click.echo(f"No GPUs: {status.gpus.none_because or 'none were found so far'}")
            return
        time.sleep(_REASON_POLL_S)
    if len(status.nodes) > 1:
        from gpuyard.cli.commands.status import gpus_text

        for node in status.nodes:
            click.echo(f"{node.name}: {gpus_text(node.gpus)}")
    if status.gpus.allocatable < status.gpus.capacity:
        lacking = status.gpus.capacity - status.gpus.allocatable
        click.echo(f"{lacking} of {status.gpus.capacity} GPUs can't be had: `gpuyard nodes` says why")


def checked_backend(module: str) -> str:
    """The module, so that an agent finds it in any folder.

    Raises:
        UsageError: it can't be loaded.
    """
    from gpuyard.devices.backend import load_backend

    module = str(Path(module).absolute()) if module.endswith(".py") else module
    load_backend(module, host_root=Path("/"))
    return module


def checked_simulation(text: str) -> str:
    """The text when it names a model and a count.

    Raises:
        UsageError: it doesn't; the message has the form and the nearest model.
    """
    from gpuyard.devices.simulated.simulation import parse_simulations

    parse_simulations(text)
    return text
