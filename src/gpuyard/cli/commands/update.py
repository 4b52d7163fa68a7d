"""`gpuyard update`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuyard import errors
from gpuyard.cli.commands.run import RunCommand, build_first
from gpuyard.cli.commands.serve import program_params
from gpuyard.cli.options.lock import lock_environ, lock_options
from gpuyard.cli.options.registry import registry_environ, registry_options
from gpuyard.cli.options.service import prometheus_option, service_options, settle_scaling
from gpuyard.cli.options.shared import complete_runs, complete_scripts, target_options
from gpuyard.cli.options.spec import flags_of

if TYPE_CHECKING:
    from gpuyard.runs.target import Target
    from gpuyard.workloads.resolved_run import ResolvedRun
    from gpuyard.workloads.spec.run_spec import RunSpec


@click.command(
    "update",
    cls=RunCommand,
    params=program_params("name"),
    epilog="""\b
Examples:
  gpuyard update digits -f gpuyard.yaml
  gpuyard update digits --image registry.example/digits:2
  gpuyard update digits --replicas 1..8 --target-inflight 4
  gpuyard update digits              # new replicas, with its files as they are now

\b
Exit code: 0 once all replicas are new and ready, 1 where one can't become
ready: the earlier ones that are left go on serving.
""",
)
@click.argument("name", metavar="NAME", shell_complete=complete_runs)
@click.argument("command_line", metavar="[SCRIPT|COMMAND]...", nargs=-1, shell_complete=complete_scripts)
@service_options
@click.option("-d", "--detach", is_flag=True, help="Return once the update is under way.")
@click.option("--wait", is_flag=True, help="Update even when no node could ever run it.")
@prometheus_option
@registry_options
@lock_options
@target_options
def command(
    name: str,
    command_line: tuple[str, ...],
    file: Path | None,
    env_file: tuple[Path, ...],
    detach: bool,
    wait: bool,
    prometheus: str | None,
    context: str | None,
    namespace: str | None,
    plain_http: tuple[str, ...],
    registry_ca: Path | None,
    locked: bool,
    frozen: bool,
) -> None:
    """Change a service without losing a request.

    Without -f it is what it was with these options. New replicas become ready first where there is room for
    them, and those that go finish what they have.
    """
    from gpuyard.cli.call import call
    from gpuyard.runs.submitting.resolve import check_for_cluster, check_serves, resolve
    from gpuyard.runs.submitting.services.decision import with_prometheus
    from gpuyard.runs.target import check_namespace, goes_to_yard, namespace_of

    check_namespace(namespace)
    settle_scaling(flags_of(click.get_current_context()))
    spec, base = _load(name, command_line, file, env_file, context, namespace)
    check_serves(spec)
    if not goes_to_yard(context):
        check_for_cluster(spec)
    run = resolve(spec, base, os.environ, namespace=namespace_of(context, namespace))
    environ = lock_environ(registry_environ(plain_http, registry_ca), locked=locked, frozen=frozen)
    environ = with_prometheus(environ, prometheus)
    read_as = ""
    if spec.build:
        run, read_as = build_first(run, file or base / "gpuyard.yaml", environ, None, context, namespace)

    async def work(target: Target) -> int:
        return await _update(target, run, environ, wait=wait, detach=detach, read_as=read_as)

    sys.exit(call(work, context=context, namespace=namespace))


def _load(
    name: str,
    command_line: tuple[str, ...],
    file: Path | None,
    env_file: tuple[Path, ...],
    context: str | None,
    namespace: str | None,
) -> tuple[RunSpec, Path]:
    """The spec of the file, or the service's own, with the options over it; and where its paths start."""
    from gpuyard.cli.call import call
    from gpuyard.cli.spec_loading import load_flags
    from gpuyard.runs.services.updating import stored_spec
    from gpuyard.runs.submitting.script import takes_files
    from gpuyard.runs.submitting.spec_file import read_spec_file
    from gpuyard.runs.target import goes_to_yard
    from gpuyard.workloads.spec.overrides import Flag
    from gpuyard.workloads.spec.run_spec import load_spec

    flags = [*load_flags(command_line, env_file), Flag("NAME", ("name",), name)]
    if file is not None:
        return load_spec(read_spec_file(file), str(file), flags, os.environ), file.parent
    stored = call(lambda target: stored_spec(target, name), context=context, namespace=namespace)
    # Anybody who may change the Deployment may have written it: of this shell it gets what the flags name,
    # and of this machine's files none.
    named = {flag.path[1] for flag in flags if flag.path[:1] == ("env",) and len(flag.path) > 1}
    shell = {key: text for key, text in os.environ.items() if key in named}
    spec, folder = load_spec(stored.text, f"the spec of {name}", flags, shell), Path(stored.folder)
    if not goes_to_yard(context) and takes_files(spec, folder) and folder != Path.cwd():
        raise errors.UsageError(
            f"service {name!r} says that its files are those of {folder}",
            remedy="if they are, call this there, or name its file: -f FILE",
        )
    return spec, folder


async def _update(
    target: Target,
    run: ResolvedRun,
    environ: Mapping[str, str],
    *,
    wait: bool,
    detach: bool,
    read_as: str,
) -> int:
    from gpuyard.cli.attachment import attached
    from gpuyard.cli.output.notices import print_notice
    from gpuyard.cli.rollouts import follow_to_ready
    from gpuyard.runs.services.updating import update_service

    await update_service(target, run, print_notice, environ=environ, wait=wait, read_as=read_as)
    if detach:
        click.echo(f"Updating {run.name}. Follow it: {target.command('show', run.name)}", err=True)
        return 0
    return await attached(target, run.name, follow_to_ready(target, run.name), ours=True, again=("show",))
