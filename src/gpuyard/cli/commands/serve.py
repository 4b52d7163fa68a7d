"""`gpuyard serve`."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuyard.cli.commands.run import RunCommand, build_first, start_yard
from gpuyard.cli.commands.run import command as run_command
from gpuyard.cli.options.lock import lock_environ, lock_options
from gpuyard.cli.options.registry import registry_environ, registry_options
from gpuyard.cli.options.service import prometheus_option, service_options, settle_scaling
from gpuyard.cli.options.shared import complete_scripts, target_options
from gpuyard.cli.options.spec import SpecOption, flags_of

if TYPE_CHECKING:
    from gpuyard.runs.target import Target
    from gpuyard.workloads.resolved_run import ResolvedRun


#: Options of `run` that are about one pod of it, whatever it is for.
_KEYS = (
    *("name", "resources.gpus", "resources.cpus", "resources.memory", "resources.shm"),
    *("env", "workdir", "python", "shell", "snapshot", "image", "image_pull_secrets", "volumes"),
    *("priority", "node_selector", "tolerations", "affinity"),
)
_HELP = {
    "name": "Name of the service (default: the script's).",
    "snapshot": "Serve a copy of the code as it is now: what git knows or doesn't ignore.",
}


def program_params(*leave_out: str) -> list[click.Parameter]:
    """The options of `run` that a service has, without those of these keys."""
    keys = set(_KEYS) - set(leave_out)
    return [_own(o) for o in run_command.params if isinstance(o, SpecOption) and o.key in keys]


def _own(option: SpecOption) -> SpecOption:
    copied = copy.copy(option)
    copied.help = _HELP.get(option.key, option.help)
    return copied


@click.command(
    "serve",
    cls=RunCommand,
    params=program_params(),
    epilog="""\b
Examples:
  gpuyard serve serve.py --gpus 1 --port 8000
  gpuyard serve serve.py --gpus 1 --port 8000 --replicas 3 --readiness /healthz
  gpuyard serve -f gpuyard.yaml --replicas 1..8 --target-inflight 4 --scale-to-zero 15m
  gpuyard serve -f gpuyard.yaml --dry-run -o yaml

\b
Exit code: 0 once all replicas are ready, 1 where one can't become ready;
the service is there then, too. Ctrl-C detaches with 0; it goes on.
""",
)
@click.argument("command_line", metavar="[SCRIPT|COMMAND]...", nargs=-1, shell_complete=complete_scripts)
@service_options
@click.option("-d", "--detach", is_flag=True, help="Return once submitted.")
@click.option("--wait", is_flag=True, help="Submit even when no node could ever run it.")
@click.option("--dry-run", is_flag=True, help="Print the manifests and send nothing.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="Print for machines.")
@prometheus_option
@registry_options
@lock_options
@target_options
def command(
    command_line: tuple[str, ...],
    file: Path | None,
    env_file: tuple[Path, ...],
    detach: bool,
    wait: bool,
    dry_run: bool,
    output: str | None,
    prometheus: str | None,
    context: str | None,
    namespace: str | None,
    plain_http: tuple[str, ...],
    registry_ca: Path | None,
    locked: bool,
    frozen: bool,
) -> None:
    """Serve a model: replicas of a program behind one address, until you stop it.

    The program listens on PORT of its environment. The address is printed, and stays the same whatever
    becomes of the replicas.
    """
    from gpuyard.cli.call import call
    from gpuyard.cli.spec_loading import load_run_spec
    from gpuyard.runs.submitting.resolve import check_for_cluster, check_serves, resolve
    from gpuyard.runs.submitting.services.decision import with_prometheus
    from gpuyard.runs.target import check_namespace, goes_to_yard, namespace_of

    check_namespace(namespace)
    settle_scaling(flags_of(click.get_current_context()))
    spec = load_run_spec(command_line, file, env_file)
    check_serves(spec)
    to_yard = goes_to_yard(context)
    if not to_yard and not dry_run:
        check_for_cluster(spec)
    base = file.parent if file else Path()
    run = resolve(spec, base, os.environ, namespace=namespace_of(context, namespace))
    environ = lock_environ(registry_environ(plain_http, registry_ca), locked=locked, frozen=frozen)
    environ = with_prometheus(environ, prometheus)
    if dry_run:
        from gpuyard.cli.dry_run import print_dry_run

        print_dry_run(run, output or "yaml", environ, wait=wait, context=context, namespace=namespace)
        return
    if to_yard:
        start_yard()
    read_as = ""
    if spec.build:
        built_of = file or Path("gpuyard.yaml")
        run, read_as = build_first(run, built_of, environ, spec.name, context, namespace)
    submission = ServiceSubmission(run, environ, read_as, wait, detach, output)
    sys.exit(call(submission.to_exit, context=context, namespace=namespace))


@dataclass(frozen=True)
class ServiceSubmission:
    """A service on its way, and what its user wants to see of it."""

    run: ResolvedRun
    environ: Mapping[str, str]
    read_as: str
    wait: bool
    detach: bool
    output: str | None

    async def to_exit(self, target: Target) -> int:
        """Submits the service and follows it until it is ready; returns the command's exit code."""
        from gpuyard.cli.attachment import attached
        from gpuyard.cli.output.notices import print_notice
        from gpuyard.runs.submitting.submit import submit

        await submit(
            target, self.run, print_notice, environ=self.environ, wait=self.wait, read_as=self.read_as
        )
        name = self.run.name
        return await attached(target, name, self._after_submit(target), ours=True, again=("show",))

    async def _after_submit(self, target: Target) -> int:
        from gpuyard.cli.rollouts import follow_to_ready
        from gpuyard.runs.services.service import find_service

        name = self.run.name
        service = await find_service(target, name)
        address = service.state.address if service else ""
        if self.output:
            _print_service(name, address, self.output)
        else:
            click.echo(f"Serving {name} at {address}", err=True)
            if not target.is_yard:
                click.echo(f"From this machine: {target.command('forward', name)}", err=True)
        return 0 if self.detach else await follow_to_ready(target, name)


def _print_service(name: str, address: str, output: str) -> None:
    from gpuyard.cli.output.results import print_json
    from gpuyard.workloads.yaml_text import to_yaml

    said = {"name": name, "address": address}
    if output == "json":
        print_json(said)
    else:
        click.echo(to_yaml([said]), nl=False)
