"""`gpuyard run`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuyard.cli.options.lock import lock_environ, lock_options
from gpuyard.cli.options.registry import registry_environ, registry_options
from gpuyard.cli.options.shared import complete_files, complete_folders, complete_scripts, target_options
from gpuyard.cli.options.spec import spec_option

if TYPE_CHECKING:
    from gpuyard.runs.target import Target
    from gpuyard.workloads.resolved_run import ResolvedRun


class RunCommand(click.Command):
    """Says where a script's own options go when one stands among ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Adds a hint to click's message."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(
                f"No such option {error.option_name!r}.{_nearest(error)} "
                "The script's own options go after `--`.",
                ctx,
            ) from error


def _nearest(error: click.NoSuchOption) -> str:
    """Ours that was probably mistyped; click's own guess would offer --detach for a script's --epochs."""
    import difflib

    near = difflib.get_close_matches(error.option_name, error.possibilities or (), n=1, cutoff=0.75)
    return f" Did you mean {near[0]!r}?" if near else ""


@click.command(
    "run",
    cls=RunCommand,
    epilog="""\b
Examples:
  gpuyard run train.py --gpus 2 -- --epochs 3
  gpuyard run --gpus H100:2 -- torchrun --nproc_per_node=2 train_ddp.py
  gpuyard run notebook.py --gpus shared      # a share of one
  gpuyard run train_ddp.py --nodes 2 --gpus 8
  gpuyard run train.py --volume /data=imagenet:ro --volume /ckpt=./ckpt
  gpuyard run train.py --sweep lr=0.1,0.01 --sweep seed=1..3 -- --lr {lr}
  gpuyard run -f gpuyard.yaml --env EPOCHS=3 -d
  gpuyard run -f gpuyard.yaml --dry-run -o yaml

\b
Exit code: that of the process (128+n for signal n), never 0 for a run
that failed or was stopped: then 124 for a timeout, else 125. 125 too
when gpuyard itself failed after the submit, 2 for misuse before it.
Ctrl-C detaches with 0; the run goes on.
""",
)
@click.argument("command_line", metavar="[SCRIPT|COMMAND]...", nargs=-1, shell_complete=complete_scripts)
@click.option("-f", "--file", type=click.Path(path_type=Path), help="Spec file; flags win over it.")
@spec_option("-n", "--name", key="name", metavar="NAME", help="Name of the run (default: from the script).")
@spec_option(
    "--gpus",
    key="resources.gpus",
    metavar="N|MODEL:N",
    help="GPUs, such as 2, H100:2, 1g.10gb (a part) or shared (default: none).",
)
@spec_option(
    "--nodes",
    key="nodes",
    metavar="N|MIN..MAX",
    help="Pods, each with these resources, that start together; 2..4 may be scaled, and starts killed pods "
    "again, up to 6 without --retries, also those killed for memory (default: 1).",
)
@spec_option(
    "--sweep",
    key="sweep",
    form="entry_list",
    metavar="NAME=VALUES",
    help="A task for each value, such as lr=1e-3,1e-4 or seed=1..3; {NAME} in the command is replaced.",
)
@spec_option(
    "--sweep-file",
    key="sweep_file",
    metavar="CSV",
    shell_complete=complete_files,
    help="A task for each row; the first line has the names.",
)
@spec_option("--at-once", key="at_once", metavar="N", help="Tasks that run at a time (default: up to 100).")
@spec_option("--cpus", key="resources.cpus", metavar="QUANTITY", help="CPUs, such as 4 or 500m.")
@spec_option("--memory", key="resources.memory", metavar="QUANTITY", help="Memory, such as 16Gi.")
@spec_option("--shm", key="resources.shm", metavar="QUANTITY", help="Size of /dev/shm, such as 8Gi.")
@spec_option(
    "--env",
    key="env",
    form="entry_or_key",
    metavar="K[=V]",
    help="Environment; K alone takes your shell's value.",
)
@click.option(
    "--env-file", type=click.Path(path_type=Path), multiple=True, help="Lines of K=V or K; --env wins."
)
@spec_option(
    "--workdir",
    key="workdir",
    metavar="DIR",
    shell_complete=complete_folders,
    help="Folder to run in (default: the spec's, else this one).",
)
@spec_option(
    "--python",
    key="python",
    metavar="PATH",
    shell_complete=complete_files,
    help="Interpreter (default: the virtual environment's, else python3).",
)
@spec_option(
    "--shell", key="shell", metavar="SHELL", help="What runs a line in quotes, such as bash or 'bash -l'."
)
@spec_option(
    "--snapshot",
    key="snapshot",
    is_flag=True,
    flag_value="true",
    default=None,
    help="Run in a copy of the code as it is now: what git knows or doesn't ignore.",
)
@spec_option("--image", key="image", metavar="REF", help="Container image (on the yard: run by podman).")
@spec_option(
    "--image-pull-secret",
    key="image_pull_secrets",
    form="item",
    metavar="NAME",
    help="A Secret that a cluster's nodes pull it with.",
)
@spec_option(
    "--start-within",
    key="start_within",
    metavar="TIME",
    help="How long pods that are up wait for the others (default: 10m).",
)
@spec_option(
    "--volume",
    key="volumes",
    form="entry_once",
    metavar="PATH=SOURCE[:ro]",
    help="Mount a claim, or on the yard a folder (./ckpt), at PATH. In a spec file also a claim that is made"
    " where it isn't there: volumes: {/ckpt: {claim: ckpt, size: 50Gi, storage_class: fast}}.",
)
@spec_option("--retries", key="retries", metavar="N", help="Attempts after a failed first one.")
@spec_option(
    "--timeout",
    key="timeout",
    metavar="TIME",
    help="End an attempt that runs longer, such as 90m, 12h or 2d.",
)
@spec_option(
    "--grace",
    key="grace",
    metavar="TIME",
    help="From SIGTERM to SIGKILL, when it is told to end (default: 30s).",
)
@spec_option(
    "--idle",
    key="idle",
    metavar="TIME",
    help="End it once its GPUs have been idle so long, such as 30m.",
)
@spec_option(
    "--signal",
    key="signal",
    metavar="NAME@TIME",
    help="Sent so long before the timeout, such as USR1@120.",
)
@spec_option("--priority", key="priority", metavar="CLASS", help="Name of a PriorityClass.")
@spec_option(
    "--node-selector",
    key="node_selector",
    form="entry",
    metavar="KEY=VALUE",
    help="Only nodes with this label.",
)
@spec_option(
    "--toleration",
    key="tolerations",
    form="toleration",
    metavar="KEY[=V][:EFFECT]",
    help="Nodes with this taint too.",
)
@spec_option(
    "--affinity",
    key="affinity",
    form="yaml",
    metavar="YAML|@FILE",
    help="Where it must or should be placed; YAML or JSON.",
)
@click.option("-d", "--detach", is_flag=True, help="Return once submitted.")
@click.option("--wait", is_flag=True, help="Submit even when no node could ever run it.")
@click.option("--replace", is_flag=True, help="Remove a run of the same name first.")
@click.option("--dry-run", is_flag=True, help="Print the manifests and send nothing.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="Print for machines.")
@registry_options
@lock_options
@target_options
def command(
    command_line: tuple[str, ...],
    file: Path | None,
    env_file: tuple[Path, ...],
    detach: bool,
    wait: bool,
    replace: bool,
    dry_run: bool,
    output: str | None,
    context: str | None,
    namespace: str | None,
    plain_http: tuple[str, ...],
    registry_ca: Path | None,
    locked: bool,
    frozen: bool,
) -> None:
    """Run a script or command on GPUs and follow its output.

    A SCRIPT ending in .py is run by the interpreter; what follows `--` are its arguments, or a whole
    command. The yard is started when it isn't there.
    """
    from gpuyard.cli.call import call
    from gpuyard.cli.spec_loading import load_run_spec
    from gpuyard.runs.submitting.resolve import check_ends, check_for_cluster, resolve
    from gpuyard.runs.target import check_namespace, goes_to_yard, namespace_of

    check_namespace(namespace)
    spec = load_run_spec(command_line, file, env_file)
    check_ends(spec)
    base = file.parent if file else Path()
    to_yard = goes_to_yard(context)
    if not to_yard and not dry_run:
        check_for_cluster(spec)
    # Mistakes in the spec are told before a yard is started for them.
    run = resolve(spec, base, os.environ, namespace=namespace_of(context, namespace))
    environ = lock_environ(registry_environ(plain_http, registry_ca), locked=locked, frozen=frozen)
    if dry_run:
        from gpuyard.cli.dry_run import print_dry_run

        print_dry_run(run, output or "yaml", environ, wait=wait, context=context, namespace=namespace)
        return
    if to_yard:
        start_yard()
    read_as = ""
    if spec.build:
        run, read_as = build_first(
            run, file or Path("gpuyard.yaml"), environ, None if replace else spec.name, context, namespace
        )
    submission = Submission(run, environ, read_as, replace, wait, detach, output)
    sys.exit(call(submission.to_exit, context=context, namespace=namespace))


@dataclass(frozen=True)
class Submission:
    """A run on its way, and what its user wants to see of it."""

    run: ResolvedRun
    environ: Mapping[str, str]
    read_as: str
    replace: bool
    wait: bool
    detach: bool
    output: str | None

    async def to_exit(self, target: Target) -> int:
        """Submits the run and follows it; returns the command's exit code."""
        from gpuyard.cli.attachment import attached
        from gpuyard.cli.output.notices import print_notice
        from gpuyard.runs.submitting.submit import submit

        await submit(
            target,
            self.run,
            print_notice,
            environ=self.environ,
            replace=self.replace,
            wait=self.wait,
            read_as=self.read_as,
        )
        return await attached(target, self.run.name, self._after_submit(target), ours=True)

    async def _after_submit(self, target: Target) -> int:
        from gpuyard.cli.output.submit_message import stdin_has_data, sweep_note, torch_note
        from gpuyard.workloads.command import reads_standard_input, split_run

        if self.output:
            await _print_run(target, self.run.name, self.output)
        else:
            click.echo(await self._message(target), err=True)
            for note in filter(None, (torch_note(self.run), sweep_note(self.run))):
                click.echo(note, err=True)
        argv = split_run(self.run.spec.run, self.run.spec.shell)
        if reads_standard_input(argv):
            click.echo(
                f"Note: {argv[0]} reads commands from standard input, which isn't passed on to a run, so it "
                "ends at once. Give it a script or a command",
                err=True,
            )
        elif not self.detach and stdin_has_data():
            click.echo("Note: standard input isn't passed on to a run", err=True)
        if self.detach:
            return 0
        from gpuyard.cli.follow import follow_to_exit

        return await follow_to_exit(target, self.run.name, is_new=True)

    async def _message(self, target: Target) -> str:
        from gpuyard.cli.output.submit_message import submitted_text

        simulated = False
        if self.run.spec.gpus.count and target.is_yard:
            from gpuyard.runs.run import simulated_nodes

            simulated = bool(await simulated_nodes(target))
        text = submitted_text(self.run, os.environ, simulated=simulated)
        attach = target.command("logs", "-f", self.run.name)
        return f"{text}. Attach: {attach}" if self.detach else text


def build_first(
    run: ResolvedRun,
    file: Path,
    environ: Mapping[str, str],
    new_name: str | None,
    context: str | None,
    namespace: str | None,
) -> tuple[ResolvedRun, str]:
    """The run with its image by digest, once that is built; and the image's name on this machine."""
    from gpuyard.cli.building import build_for_run
    from gpuyard.cli.call import call
    from gpuyard.runs.submitting.creation import check_name

    if new_name:
        # A build may take minutes, and then the name is known to be taken.
        call(lambda target: check_name(target, new_name), context=context, namespace=namespace)
    image = build_for_run(run, file, environ)
    return image.run, image.read_as


def start_yard() -> None:
    """Starts it where it isn't up, and says so meanwhile."""
    from gpuyard.cli.output.results import StatusLine
    from gpuyard.local import lifecycle
    from gpuyard.local.paths import find_paths

    line = StatusLine()
    try:
        lifecycle.start(find_paths(os.environ), on_wait=lambda text: line.show(text + " …"))
    finally:
        line.clear()


async def _print_run(target: Target, name: str, output: str) -> None:
    from gpuyard.cli.output.results import print_json
    from gpuyard.runs.run import find_run
    from gpuyard.workloads.yaml_text import to_yaml

    state = (await find_run(target, name)).state.to_json()
    if output == "json":
        print_json(state)
    else:
        click.echo(to_yaml([state]), nl=False)
