"""A run as its user wants it: a spec file and flags, read, checked and told apart from mistakes.

Every problem is reported at once, each with its line (or flag) and what would mend it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gpuyard.advice import advice
from gpuyard.errors import Problem, SpecError
from gpuyard.kube.quantity import parse_quantity
from gpuyard.workloads.command import CommandLine, script_for_shell
from gpuyard.workloads.spec.gpu_request import GpuRequest
from gpuyard.workloads.spec.model import SPEC, parse_run, unknown_key
from gpuyard.workloads.spec.overrides import Flag, FlagLayer
from gpuyard.workloads.spec.schema import Findings
from gpuyard.workloads.spec.shell_variables import expand
from gpuyard.workloads.spec.text_tree import (
    Node,
    Path,
    Tree,
    UnreadableYaml,
    format_path,
    is_text,
    places_of_no_text,
)
from gpuyard.workloads.spec.volumes import Volume, across_volumes, volumes_of

if TYPE_CHECKING:
    from decimal import Decimal

    from gpuyard.workloads.spec.early_signal import EarlySignal
    from gpuyard.workloads.spec.service.values import ServiceSpec
    from gpuyard.workloads.sweeps.values import Sweep

_NO_TEXT = "the value isn't text in UTF-8"


@dataclass(frozen=True)
class ImageBuild:
    """An image to build before the run.

    Attributes:
        base: what it stands on.
        repository: where it goes, with a tag if one is wanted.
        requirements: file with what to install, relative to the spec's folder.
        platforms: such as linux/amd64; empty for the default.
        allow_secrets: files, folders or patterns of what may go in although it looks secret.
        pull_repository: the name that nodes pull it by, where that is another.
        run: the file's own, whatever the flags say; None where it has none. The image starts it when it is
            told nothing else.
        tags: further names for it; one without a repository is a tag of `repository`.
        allow_missing_libraries: names of shared libraries that its wheels may lack.
        copy_from: files and folders of other images, each as IMAGE:/path or IMAGE:/path:/destination.
        labels: of the image.
        system_packages: what to install of the base's distribution.
        build_project: whether the user's own projects are built, by their backends.
        build_sources: distributions that may be built of their sources; True for all.
    """

    base: str
    repository: str
    requirements: str | None = None
    platforms: tuple[str, ...] = ()
    allow_secrets: tuple[str, ...] = ()
    pull_repository: str | None = None
    run: CommandLine | None = None
    tags: tuple[str, ...] = ()
    allow_missing_libraries: tuple[str, ...] = ()
    copy_from: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    system_packages: tuple[str, ...] = ()
    build_project: bool = False
    build_sources: tuple[str, ...] | bool = ()


@dataclass(frozen=True)
class RunSpec:
    """A checked run. Sizes are Kubernetes quantities as the user wrote them.

    Attributes:
        name: None until one is generated.
        run: a command line or an argv; see `command.resolve_command`.
        shell: what runs a command line; None for one of our choice, where one is needed.
        env: complete: values from the caller's shell are filled in; without what the image to build has.
        baked: what is written into an image that is built: the file's own, whatever the flags say.
        nodes: how many pods it has at most, each with these resources, on as many nodes or fewer.
        least_nodes: without so many it doesn't start, where it is elastic; None where it isn't.
        start_within: how long a run of several pods that are up waits for the others.
        volumes: what it mounts, the outer paths first.
        sweep: the values of its tasks; None for a run without. At the submit the file's come to it.
        sweep_file: a table in CSV, relative to the spec's folder.
        at_once: how many of its tasks run at a time; None for a bound of ours.
        retries: attempts after the first, of each task for itself.
        timeout: how long one attempt may run; None for any time.
        grace: how long its processes have from SIGTERM to SIGKILL; None for Kubernetes' 30 s.
        idle: how long its GPUs may be idle before it ends; None for any time.
        terminal: whether it is for a shell beside it, with whose terminal it ends.
        signal: sent to what handles it before the timeout.
        snapshot: whether it runs in a copy of the code as it is at the submit.
        image: its reference; None for a host process and while `build` is to be done.
        image_pull_secrets: names of Secrets that a cluster's nodes pull the image with.
        build: the image to build first; a relative workdir is then the folder whose files go in.
        priority: name of a PriorityClass.
        tolerations, affinity: as Kubernetes writes them.
        service: what makes it a service; None for a run, which ends.
        written: of a service, the file and the flags as one text that `load_spec` reads; empty for a run.
    """

    run: CommandLine
    shell: str | None = None
    name: str | None = None
    gpus: GpuRequest = field(default_factory=GpuRequest)
    cpus: str | None = None
    memory: str | None = None
    shm: str | None = None
    workdir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    baked: Mapping[str, str] = field(default_factory=dict)
    python: str | None = None
    snapshot: bool = False
    image: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    build: ImageBuild | None = None
    nodes: int = 1
    least_nodes: int | None = None
    start_within: timedelta = timedelta(minutes=10)
    volumes: tuple[Volume, ...] = ()
    sweep: Sweep | None = None
    sweep_file: str | None = None
    at_once: int | None = None
    retries: int = 0
    timeout: timedelta | None = None
    grace: timedelta | None = None
    idle: timedelta | None = None
    terminal: bool = False
    signal: EarlySignal | None = None
    priority: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    affinity: Mapping[str, Any] | None = None
    service: ServiceSpec | None = None
    written: str = ""


def load_spec(
    text: str | bytes | None, source: str, flags: Sequence[Flag], shell: Mapping[str, str]
) -> RunSpec:
    """Reads a spec file, lays the flags over it and checks the whole.

    Args:
        text: the file's content; None when there is no file.
        source: the file's name, for messages.
        flags: laid over the file, one after another.
        shell: the caller's environment, for `env` keys without a value.

    Raises:
        SpecError: with every problem.
    """
    tree = _read(text, source)
    written = tree.root.get("run")
    baked = _baked(tree.root.get("env"))
    layer = FlagLayer(tree.root)
    layer.lay(flags)
    _drop_null(tree.root)
    problems = [*tree.problems, *layer.problems]
    where = _Where(tree.lines, layer.flags)
    findings = Findings(unknown_key)
    found = SPEC(tree.root, (), findings)
    builds = isinstance(tree.root.get("image"), dict)
    env, unset = _fill_env(_texts(tree.root.get("env"), builds=builds), shell, layer.flags)
    misnamed = {path for path, _ in findings.all}
    unset += [(path, _NO_TEXT) for path in places_of_no_text(tree.root) if path[0] != "env"]
    unset = [(path, message) for path, message in unset if path not in misnamed]
    wrong = (*findings.all, *unset, *_across(tree.root, layer.flags))
    problems += [where.problem(path, message) for path, message in wrong]
    if problems:
        raise SpecError(source, sorted(problems, key=lambda problem: (problem.line == 0, problem.line)))
    spec = replace(_run_spec(found, env, written), baked=baked)
    if spec.service is None:
        return spec
    from gpuyard.workloads.spec.service.stored import as_text  # Few specs are of services.

    return replace(spec, written=as_text(tree.root, env))


def _read(text: str | bytes | None, source: str) -> Tree:
    if text is None:
        return Tree()
    # ruamel.yaml costs start-up time, and most runs have no file.
    from gpuyard.workloads.spec.yaml_tree import read_yaml

    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return read_yaml(text.removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{error.object[error.start]:02x} isn't UTF-8; is this a text file?"
        raise SpecError(source, [Problem("encoding", message, line)]) from error
    except UnreadableYaml as error:
        raise SpecError(source, [error.problem]) from error


def _drop_null(root: dict[str, Node]) -> None:
    """`null` means absent, as in YAML, everywhere but in the environment, where it is text."""
    for key, value in root.items():
        if key in ("resources", "image", "service", "target") and isinstance(value, dict):
            _drop_null(value)
        elif value == "null":
            root[key] = None


@dataclass(frozen=True)
class _Where:
    """Finds the line or the flag that a path came from."""

    lines: Mapping[Path, int]
    flags: Mapping[Path, str]

    def problem(self, path: Path, message: str) -> Problem:
        for length in range(len(path), 0, -1):
            if flag := self.flags.get(path[:length]):
                return Problem(flag, message)
            if line := self.lines.get(path[:length]):
                return Problem(format_path(path), message, line)
        return Problem(format_path(path), message)


def _is_baked(node: Node) -> bool:
    return isinstance(node, dict) and node.get("bake") == "true"


def _baked(raw: Node) -> dict[str, str]:
    """What the environment has for the image, where it is written rightly."""
    found = raw.items() if isinstance(raw, dict) else ()
    return {
        name: str(node["value"])
        for name, node in found
        if isinstance(node, dict) and _is_baked(node) and isinstance(node.get("value"), str)
    }


def _texts(raw: Node, *, builds: bool) -> Node:
    """The environment with each variable as text, without those that the image to build has."""
    if not isinstance(raw, dict):
        return raw
    kept = {name: node for name, node in raw.items() if not (builds and _is_baked(node))}
    return {name: node.get("value") if isinstance(node, dict) else node for name, node in kept.items()}


def _fill_env(
    raw: Node, shell: Mapping[str, str], flags: Mapping[Path, str]
) -> tuple[dict[str, str], list[tuple[Path, str]]]:
    """The environment with the caller's values, and what can't be filled in.

    Args:
        raw: as the file and the flags have it.
        shell: the caller's environment.
        flags: by path; what came from one is as its user's shell left it.
    """
    env: dict[str, str] = {}
    problems: list[tuple[Path, str]] = []
    for name, value in raw.items() if isinstance(raw, dict) else ():
        path = ("env", name)
        if isinstance(value, str) and path not in flags:
            value, wrong = expand(value, shell)
            problems += [(path, message) for message in wrong]
        text = shell.get(name) if value is None else value
        if text is None:
            empty = f"{name}=" if path in flags else f"{name}: ''"
            remedy = f"export {name}, or give it a value ({empty} for an empty one)"
            problems.append((path, f"has no value and isn't set in your shell; {remedy}"))
        elif isinstance(text, str):
            if not is_text(text):
                problems.append((path, _NO_TEXT))
            env[name] = text
    return env, problems


def _across(root: Mapping[str, Node], flags: Mapping[Path, str]) -> Iterator[tuple[Path, str]]:
    """What only two keys together get wrong.

    Args:
        root: of the file and the flags.
        flags: by path.
    """
    # A command line that takes the place of the file's isn't one for the file's shell.
    replaced = ("run",) in flags and ("shell",) not in flags
    if isinstance(root.get("run"), list) and root.get("shell") and not replaced:
        yield ("shell",), "no shell runs a list of words; write one line of text, in quotes where it is typed"
    run = root.get("run")
    if isinstance(run, str) and (script := script_for_shell(run, bool(root.get("shell")))):
        words = f"a shell looks for {script} on PATH, as for any program; write: python {run.strip()}"
        yield ("run",), words
    workdir = root.get("workdir")
    if isinstance(root.get("image"), str) and isinstance(workdir, str) and not workdir.startswith("/"):
        yield ("workdir",), f"{workdir!r} must be an absolute path when the run has an image"
    if root.get("image_pull_secrets") and not root.get("image"):
        yield ("image_pull_secrets",), advice("a run without an image pulls none; add `image` (--image)")
    if root.get("snapshot") == "true" and root.get("image"):
        words = "a run in an image has the code that is in it; leave it out, or build an image of the folder"
        yield ("snapshot",), words
    if root.get("start_within") is not None and root.get("nodes") in (None, "1"):
        yield (
            ("start_within",),
            advice("a run of one pod waits for no others; leave it out, or add `nodes` (--nodes)"),
        )
    gpus = resources.get("gpus") if isinstance(resources := root.get("resources"), dict) else None
    if root.get("idle") is not None and gpus in (None, "0"):
        yield ("idle",), advice("no GPU of it can be idle; leave it out, or ask for GPUs (--gpus)")
    if isinstance(root.get("signal"), str):
        from gpuyard.workloads.spec.early_signal import across_signal  # Few specs have any.

        yield from across_signal(root)
    yield from across_volumes(root)
    yield from _sweep_problems(root)
    if root.get("service") is not None:
        from gpuyard.workloads.spec.service.conflicts import across_service  # Few specs are of services.

        yield from across_service(root)
    if isinstance(resources, dict):
        shm, memory = _bytes(resources.get("shm")), _bytes(resources.get("memory"))
        if shm is not None and memory is not None and shm > memory:
            words = f"{resources['shm']} is more than memory ({resources['memory']}), which it counts against"
            yield ("resources", "shm"), words


def _sweep_problems(root: Mapping[str, Node]) -> Iterator[tuple[Path, str]]:
    is_sweep = root.get("sweep") is not None or root.get("sweep_file") is not None
    if is_sweep and root.get("nodes") not in (None, "1"):
        words = "a sweep's tasks are of one pod each; leave it out, or sweep within the command"
        yield ("nodes",), advice(words)
    if root.get("at_once") is not None and not is_sweep:
        yield ("at_once",), advice("only tasks of a sweep take turns; leave it out, or add `sweep` (--sweep)")


def _bytes(value: Node) -> Decimal | None:
    try:
        return parse_quantity(value.strip()) if isinstance(value, str) else None
    except ValueError:
        return None


def _image_build(raw: Mapping[str, Any], written: Node) -> ImageBuild:
    sources = raw.get("build_sources", ())
    return ImageBuild(
        base=raw["base"],
        repository=raw["repository"],
        requirements=raw.get("requirements"),
        platforms=tuple(raw.get("platforms", ())),
        allow_secrets=tuple(raw.get("allow_secrets", ())),
        pull_repository=raw.get("pull_repository"),
        run=_own_run(written),
        tags=tuple(raw.get("tags", ())),
        allow_missing_libraries=tuple(raw.get("allow_missing_libraries", ())),
        copy_from=tuple(raw.get("copy_from", ())),
        labels=dict(raw.get("labels", {})),
        system_packages=tuple(raw.get("system_packages", ())),
        build_project=bool(raw.get("build_project")),
        build_sources=sources if isinstance(sources, bool) else tuple(sources),
    )


def _own_run(written: Node) -> CommandLine | None:
    """The file's command, where it has one."""
    try:
        return parse_run(written) if written != "null" else None
    except ValueError:
        return None


def _sweep(found: Mapping[str, tuple[str, ...]] | None) -> Sweep | None:
    if not found:
        return None
    from gpuyard.workloads.sweeps.values import Sweep, ValueTable  # Few runs have one.

    return Sweep(tuple(ValueTable((name,), tuple((v,) for v in values)) for name, values in found.items()))


def _run_spec(found: Mapping[str, Any], env: Mapping[str, str], written: Node) -> RunSpec:
    """The checked spec as a value: keys of one name and meaning as they are, the others one by one."""
    image = found.get("image")
    build = _image_build(image, written) if isinstance(image, dict) else None
    made: dict[str, Any] = {
        "env": env,
        "image": image if build is None else None,
        "image_pull_secrets": tuple(dict.fromkeys(found.get("image_pull_secrets", ()))),
        "build": build,
        "volumes": volumes_of(found.get("volumes", {})),
        "tolerations": tuple(found.get("tolerations", ())),
        "sweep": _sweep(found.get("sweep")),
        **(found["nodes"].fields if "nodes" in found else {}),
    }
    as_they_are = {key: value for key, value in found.items() if key != "resources"}
    return RunSpec(**{**as_they_are, **found.get("resources", {}), **made})
