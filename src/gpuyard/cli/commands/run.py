"""`gpuyard run`."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuyard import errors
from gpuyard.cli.options import target_options
from gpuyard.cli.registry_options import registry_environ, registry_options

if TYPE_CHECKING:
    from gpuyard.kube.objects import Manifest
    from gpuyard.runs.target import Target
    from gpuyard.workloads.spec import RunSpec


#: An OCI image layout: a folder of this machine in the place of a registry.
_LAYOUT = "oci:"
#: More is no spec, but /dev/zero or a checkpoint.
_LONGEST_SPEC_BYTES = 4 << 20


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
  gpuyard run -f gpuyard.yaml --env EPOCHS=3 -d
  gpuyard run -f gpuyard.yaml --dry-run -o yaml

\b
Exit code: that of the process (128+n for signal n); 125 when gpuyard
itself failed after the submit, 2 for misuse before it. Ctrl-C detaches
with 0; the run goes on.
""",
)
@click.argument("command_line", metavar="[SCRIPT|COMMAND]...", nargs=-1)
@click.option("-f", "--file", type=click.Path(path_type=Path), help="Spec file; flags win over it.")
@click.option("-n", "--name", metavar="NAME", help="Name of the run (default: from the script).")
@click.option("--gpus", metavar="N|MODEL:N", help="GPUs, such as 2 or H100:2 (default: none).")
@click.option("--cpus", metavar="QUANTITY", help="CPUs, such as 4 or 500m.")
@click.option("--memory", metavar="QUANTITY", help="Memory, such as 16Gi.")
@click.option("--shm", metavar="QUANTITY", help="Size of /dev/shm, such as 8Gi.")
@click.option("--env", metavar="K[=V]", multiple=True, help="Environment; K alone takes your shell's value.")
@click.option("--workdir", metavar="DIR", help="Folder to run in (default: the spec's, else this one).")
@click.option(
    "--python", metavar="PATH", help="Interpreter (default: the virtual environment's, else python3)."
)
@click.option("--image", metavar="REF", help="Container image (on the yard: run by podman).")
@click.option(
    "--image-pull-secret", metavar="NAME", multiple=True, help="A Secret that a cluster's nodes pull it with."
)
@click.option("--retries", metavar="N", help="Attempts after a failed first one.")
@click.option("--priority", metavar="CLASS", help="Name of a PriorityClass.")
@click.option("--node-selector", metavar="K=V", multiple=True, help="Only nodes with this label.")
@click.option("--toleration", metavar="KEY[=V][:EFFECT]", multiple=True, help="Nodes with this taint too.")
@click.option("--affinity", metavar="YAML|@FILE", help="Where it must or should be placed; YAML or JSON.")
@click.option("-d", "--detach", is_flag=True, help="Return once submitted.")
@click.option("--wait", is_flag=True, help="Submit even when no node could ever run it.")
@click.option("--replace", is_flag=True, help="Remove a run of the same name first.")
@click.option("--dry-run", is_flag=True, help="Print the manifests and send nothing.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="Print for machines.")
@registry_options
@target_options
def command(
    command_line: tuple[str, ...],
    file: Path | None,
    detach: bool,
    wait: bool,
    replace: bool,
    dry_run: bool,
    output: str | None,
    context: str | None,
    namespace: str | None,
    plain_http: tuple[str, ...],
    registry_ca: Path | None,
    **flags: Any,
) -> None:
    """Run a script or command on GPUs and follow its output.

    A SCRIPT ending in .py is run by the interpreter; what follows `--` are its arguments, or a whole
    command. The yard is started when it isn't there.
    """
    from gpuyard.cli.call import call
    from gpuyard.runs.script import take_script
    from gpuyard.runs.submit import Submission
    from gpuyard.runs.target import YARD, check_namespace, chosen_context, namespace_of

    check_namespace(namespace)
    wanted = _load(command_line, file, flags)
    spec = _as_built(wanted) if wanted.build else wanted
    base = file.parent if file else Path()
    environ = registry_environ(plain_http, registry_ca)
    spec = _located(spec, base)
    to_yard = (context or chosen_context() or YARD) == YARD
    script = take_script(spec, base)
    if dry_run:
        from gpuyard.cli.dry_run import print_dry_run

        job = _render(spec, base, namespace_of(context, namespace))
        submission = Submission(job, script, spec.entrypoint, environ)
        print_dry_run(submission, output or "yaml", wait=wait, context=context, namespace=namespace)
        return
    if not to_yard:
        _check_leaves_machine(spec)
    # Mistakes in the spec are told before a yard is started for them.
    job = _render(spec, base, namespace or "default")
    name = job["metadata"]["name"]
    if to_yard:
        _start_yard()
    read_as = ""
    if wanted.build:
        from gpuyard.cli.building import build_for_run
        from gpuyard.runs.creation import check_name

        if wanted.name and not replace:
            # A build may take minutes, and then the name is known to be taken.
            call(lambda target: check_name(target, name), context=context, namespace=namespace)
        image, read_as = build_for_run(wanted, base, environ)
        job["spec"]["template"]["spec"]["containers"][0]["image"] = image

    async def work(target: Target) -> int:
        from gpuyard.cli.follow import attached
        from gpuyard.cli.notices import print_notice
        from gpuyard.runs.submit import submit

        job["metadata"]["namespace"] = target.namespace
        submission = Submission(job, script, spec.entrypoint, environ, read_as)
        await submit(target, submission, print_notice, replace=replace, wait=wait)
        return await attached(target, name, after_submit(target), ours=True)

    async def after_submit(target: Target) -> int:
        from gpuyard.cli.follow import follow_to_exit
        from gpuyard.cli.submit_message import stdin_has_data, submitted_text
        from gpuyard.runs.run import simulated_nodes

        if output:
            await _print_run(target, name, output)
        else:
            simulated = bool(spec.gpus.count) and target.is_yard and bool(await simulated_nodes(target))
            said = submitted_text(name, spec, job, os.environ, simulated=simulated, script=script)
            click.echo(said + (f". Attach: {target.command('logs', '-f', name)}" if detach else ""), err=True)
        if not detach and stdin_has_data():
            click.echo("Note: standard input isn't passed on to a run", err=True)
        return 0 if detach else await follow_to_exit(target, name)

    sys.exit(call(work, context=context, namespace=namespace))


def _located(spec: RunSpec, base: Path) -> RunSpec:
    """The run with the whole path of a layout: the daemon has a working folder of its own."""
    if not (spec.image or "").startswith(_LAYOUT):
        return spec
    folder = base.absolute() / (spec.image or "").removeprefix(_LAYOUT)
    return dataclasses.replace(spec, image=f"{_LAYOUT}{os.path.normpath(folder)}")


def _check_leaves_machine(spec: RunSpec) -> None:
    """Raises UsageError for what no cluster has."""
    if not spec.image:
        raise errors.UsageError(
            "a run without an image is a process of this machine, and the command goes to a cluster",
            remedy="add `image` (--image), or run it here with --context yard",
        )
    if spec.image.startswith(_LAYOUT):
        raise errors.UsageError(
            f"{spec.image} is a folder of this machine, and the command goes to a cluster",
            remedy="push the image to a registry that the cluster reaches, and name it there",
        )


def _load(command_line: tuple[str, ...], file: Path | None, flags: dict[str, Any]) -> RunSpec:
    from gpuyard.workloads.spec import Overrides, load_spec

    if not command_line and file is None:
        raise click.UsageError("Name a script, a command after `--`, or a spec file with -f.")
    text: bytes | None = None
    if file is not None:
        try:
            with file.open("rb") as stream:
                text = stream.read(_LONGEST_SPEC_BYTES + 1)
        except OSError as error:
            raise errors.UsageError(
                f"can't read {file}: {error.strerror}", remedy="name a spec file that is there"
            ) from error
        if len(text) > _LONGEST_SPEC_BYTES:
            raise errors.UsageError(
                f"{file} has more than {_LONGEST_SPEC_BYTES >> 20} MiB", remedy="name a spec file"
            )
    tolerations, secrets = flags.pop("toleration"), flags.pop("image_pull_secret")
    if (flags["affinity"] or "").startswith("@"):
        flags["affinity"] = _read_text(Path(flags["affinity"].removeprefix("@")))
    overrides = Overrides(
        run=command_line or None, tolerations=tolerations, image_pull_secrets=secrets, **flags
    )
    return load_spec(text, str(file) if file else "the command line", overrides, os.environ)


def _as_built(spec: RunSpec) -> RunSpec:
    """The run with the image that is built for it, by tag: its digest is known afterwards."""
    from gpuyard.building.environment import ENTRYPOINT

    assert spec.build is not None
    image = spec.build.repository
    if pulled_as := spec.build.pull_repository:
        tag = image.rpartition("/")[2].partition(":")[2]
        image = f"{pulled_as}:{tag}" if tag else pulled_as
    workdir = spec.workdir if (spec.workdir or "").startswith("/") else None
    return dataclasses.replace(spec, image=image, build=None, workdir=workdir, entrypoint=ENTRYPOINT)


def _read_text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UsageError(f"can't read {file}: {error}", remedy="name a YAML or JSON file") from error


def _render(spec: RunSpec, base: Path, namespace: str) -> Manifest:
    from gpuyard.runs.host import host_context
    from gpuyard.runs.submit import name_of
    from gpuyard.workloads.render import render

    context = None if spec.image else host_context(spec, base, os.environ)
    [job] = render(spec, context, name=name_of(spec), namespace=namespace)
    return job


def _start_yard() -> None:
    from gpuyard.cli.output import StatusLine
    from gpuyard.local import lifecycle
    from gpuyard.local.paths import find_paths

    line = StatusLine()
    try:
        lifecycle.start(find_paths(os.environ), on_wait=lambda text: line.show(text + " …"))
    finally:
        line.clear()


async def _print_run(target: Target, name: str, output: str) -> None:
    from gpuyard.cli.output import print_json
    from gpuyard.runs.run import find_run
    from gpuyard.workloads.yaml_text import to_yaml

    state = (await find_run(target, name)).state.to_json()
    if output == "json":
        print_json(state)
    else:
        click.echo(to_yaml([state]), nl=False)
