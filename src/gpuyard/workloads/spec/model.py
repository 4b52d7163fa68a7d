"""The keys of a spec file, what each may hold, and what an unknown key may mean. Values are text."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from gpuyard.workloads.spec.early_signal import EarlySignal

from gpuyard.advice import advice
from gpuyard.kube.names import is_subdomain
from gpuyard.kube.quantity import parse_quantity
from gpuyard.kube.wellknown import ALLOCATED_ENV
from gpuyard.workloads.command import CommandLine, split_run, split_shell
from gpuyard.workloads.names import name_problem
from gpuyard.workloads.spec.affinity import AFFINITY, TOLERATION
from gpuyard.workloads.spec.gpu_request import FORM, GpuRequest, parse_gpus
from gpuyard.workloads.spec.schema import Fields, Findings, entries, items, maybe, text, value, whole_number
from gpuyard.workloads.spec.text_tree import Node, Path
from gpuyard.workloads.spec.time_spans import parse_span
from gpuyard.workloads.spec.volumes import check_volume, claim_name, folder_name, mount_path, parse_source

_ENV_NAME = r"(?a)[A-Za-z_.-][A-Za-z0-9_.-]*"
_LABEL_VALUE = r"(?a)(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?"
_LABEL_NAME = r"(?a)[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_NOT_KUBERNETES = r"(?i)(\d+(?:\.\d+)?)\s*([kmgtp])(?:i?b)?"
#: Kubernetes counts seconds in 31 bits.
_MAX_TIMEOUT = timedelta(days=24_855)
#: Of one run; more than any cluster takes, as typing errors are.
MAX_NODES = 5000
_SMALLEST_MEMORY = 2**20
_MOST_CPUS = 100_000
_MOST_BYTES = 2**60

#: Words of other tools that don't look like ours.
_ALSO_KNOWN_AS = {
    "command": "run", "cmd": "run", "args": "run", "script": "run", "entrypoint": "run",
    "environment": "env", "accelerators": "resources.gpus", "gpu": "resources.gpus",
    "nvidia.com/gpu": "resources.gpus", "amd.com/gpu": "resources.gpus",
    "cpu": "resources.cpus", "mem": "resources.memory",
    "num_nodes": "nodes", "num-nodes": "nodes", "parallelism": "nodes",
    "replicas": "service.replicas", "port": "service.port", "ports": "service.port",
    "readinessProbe": "service.readiness", "livenessProbe": "service.liveness",
    "backoffLimit": "retries", "terminationGracePeriodSeconds": "grace", "grace_period": "grace",
    "activeDeadlineSeconds": "timeout", "priorityClassName": "priority",
    "mounts": "volumes", "volumeMounts": "volumes", "file_mounts": "volumes",
}  # fmt: skip


def _name(written: str) -> str:
    if problem := name_problem(written):
        raise ValueError(problem)
    return written


def _cpus(written: str) -> str:
    number = parse_quantity(written.strip())
    if not 0 < number <= _MOST_CPUS:
        raise ValueError(f"{written!r} is no number of CPUs; write for example 4 or 500m")
    return written.strip()


def _size(written: str) -> str:
    size = written.strip()
    try:
        number = parse_quantity(size)
    except ValueError as error:
        if match := re.fullmatch(_NOT_KUBERNETES, size):
            letter = match[2].upper().replace("K", "k")
            raise ValueError(
                f"{written!r} is not a Kubernetes quantity; write {match[1]}{match[2].upper()}i "
                f"(1024s) or {match[1]}{letter} (1000s)"
            ) from error
        raise
    if number < _SMALLEST_MEMORY:
        raise ValueError(f"{written!r} means {number:f} bytes; write the unit, for example 16Gi or 512Mi")
    if number > _MOST_BYTES:
        raise ValueError(f"{written!r} is more than any machine has; write for example 16Gi")
    return size


def _gpus(written: Any) -> GpuRequest:
    if not isinstance(written, str):
        raise ValueError(f"must be text; {FORM}")
    return parse_gpus(written)


def parse_run(written: Any) -> CommandLine:
    """What `run` says.

    Raises:
        ValueError: it is neither a command line nor a list of words.
    """
    if isinstance(written, str):
        split_run(written)
        return written
    if isinstance(written, list) and all(isinstance(word, str) for word in written):
        argv = tuple(written)
        split_run(argv)
        return argv
    raise ValueError("must be a command line, or a list of words")


def _shell(written: str) -> str:
    split_shell(written)
    return written


def env_name(written: str) -> str:
    """A variable's name; raises ValueError for what can't be one, or is set by the allocation."""
    if not re.fullmatch(_ENV_NAME, written):
        raise ValueError("can't name an environment variable; use letters, digits, '_', '.' and '-'")
    if written in ALLOCATED_ENV:
        raise ValueError(
            advice("is set by the allocation of GPUs; ask for GPUs with resources.gpus (--gpus)")
        )
    return written


def _label_key(written: str) -> str:
    prefix, slash, name = written.rpartition("/")
    if not re.fullmatch(_LABEL_NAME, name) or (slash and not is_subdomain(prefix)):
        raise ValueError("can't be a label's key; write for example topology.kubernetes.io/zone")
    return written


def _label_value(written: str) -> str:
    if not re.fullmatch(_LABEL_VALUE, written):
        raise ValueError(
            f"{written!r} can't be a label's value; at most 63 letters, digits, '-', '_' and '.', "
            "starting and ending with a letter or digit"
        )
    return written


def _priority(written: str) -> str:
    if not is_subdomain(written):
        raise ValueError(f"{written!r} can't name a PriorityClass; `kubectl get priorityclasses` lists them")
    return written


def _not_blank(written: str) -> str:
    if not written.strip():
        raise ValueError("is empty; write a value, or leave the key out")
    return written


def _secret(written: str) -> str:
    if not is_subdomain(written):
        raise ValueError(f"{written!r} can't name a Secret; `kubectl get secrets` lists them")
    return written


def _image(written: str) -> str:
    if not written or re.search(r"\s", written):
        raise ValueError(f"{written!r} can't name an image; write for example ghcr.io/you/train:1.2")
    return written


def _timeout(written: Any) -> timedelta:
    found = parse_span(written if isinstance(written, str) else str(written))
    if not timedelta(seconds=1) <= found <= _MAX_TIMEOUT:
        raise ValueError(f"{written!r} must be from 1s to {_MAX_TIMEOUT.days}d")
    return found


class NodeRange(NamedTuple):
    """How many pods a run has; an elastic one from `least` to `most`."""

    least: int
    most: int

    @property
    def fields(self) -> dict[str, int | None]:
        """Of a RunSpec."""
        return {"nodes": self.most, "least_nodes": self.least if self.least < self.most else None}


def parse_nodes(written: str) -> NodeRange:
    """Reads `4` or `2..4`.

    Raises:
        ValueError: it is neither.
    """
    found = re.fullmatch(r"(?a)([0-9]{1,6})(?:\.\.([0-9]{1,6}))?", written.strip())
    if found is None:
        raise ValueError(f"must be a whole number, or two as in 2..4, not {written!r}")
    least, most = int(found[1]), int(found[2] or found[1])
    if not 1 <= least <= most <= MAX_NODES:
        order = "be at least 1" if least < 1 else "begin with the smaller one" if least > most else ""
        raise ValueError(f"must {order or f'be at most {MAX_NODES}'}, not {written.strip()}")
    return NodeRange(least, most)


def _early_signal(written: str) -> EarlySignal:
    # Few specs have any: imports cost start-up time.
    from gpuyard.workloads.spec.early_signal import parse_early_signal

    return parse_early_signal(written)


def _flag(written: Any) -> bool:
    if written not in ("true", "false"):
        raise ValueError(f"{written!r} is neither true nor false")
    return bool(written == "true")


def _platform(written: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+/[a-z0-9_-]+(?:/[a-z0-9]+)?", written):
        raise ValueError(f"{written!r} is no platform; write for example linux/amd64")
    return written


def _copied(written: str) -> str:
    # What is an image's name, and what a path of it, is for the build to tell.
    if ":/" not in written[1:]:
        raise ValueError(
            f"{written!r} names no file of an image; write IMAGE:/path or IMAGE:/path:/destination"
        )
    return written


def _label(written: str) -> str:
    from gpuyard.workloads.spec.baked import check_label  # Few specs have any: imports cost start-up time.

    check_label(written)
    return written


_TEXT = text(_not_blank)
_IMAGE = text(_image)

#: What a run needs of a machine.
RESOURCES = Fields({"gpus": value(_gpus), "cpus": text(_cpus), "memory": text(_size), "shm": text(_size)})


def _read_build_sources(node: Node, path: Path, findings: Findings) -> Any:
    """Names of distributions, or true for all."""
    return (items(_TEXT) if isinstance(node, list) else value(_flag))(node, path, findings)


#: An image that is built from this folder before the run, when something changed.
_IMAGE_BUILD = Fields(
    {
        "base": _IMAGE,
        "repository": _IMAGE,
        "requirements": _TEXT,
        "platforms": items(text(_platform), least=1),
        "allow_secrets": items(_TEXT),
        "pull_repository": _IMAGE,
        "tags": items(_IMAGE),
        "allow_missing_libraries": items(_TEXT),
        "copy_from": items(text(_copied)),
        "labels": entries(_label, text()),
        "system_packages": items(_TEXT),
        "build_project": value(_flag),
        "build_sources": _read_build_sources,
    },
    required=dict.fromkeys(("base", "repository"), "this key is needed"),
)


def _read_image(node: Node, path: Path, findings: Findings) -> Any:
    """A name, or a mapping that says how it is built."""
    return (_IMAGE_BUILD if isinstance(node, dict) else _IMAGE)(node, path, findings)


_BAKED = Fields({"value": text(), "bake": value(_flag)}, required={"value": "write the value"})


def _read_variable(node: Node, path: Path, findings: Findings) -> Any:
    """Text, nothing, or a mapping that says whether it is written into an image."""
    if not isinstance(node, dict) or not node.keys() & _BAKED.keys.keys():
        return maybe(text())(node, path, findings)
    from gpuyard.workloads.spec.baked import check_variable

    found = _BAKED(node, path, findings)
    if found.get("bake") and isinstance(found.get("value"), str):
        value(lambda written: check_variable(str(path[-1]), written))(node["value"], path, findings)
    return found


_VOLUME = Fields(
    {
        "claim": text(claim_name),
        "folder": text(folder_name),
        "size": text(_size),
        "storage_class": text(claim_name),
        "read_only": value(_flag),
    },
    check=check_volume,
)


def _read_volume(node: Node, path: Path, findings: Findings) -> Any:
    """A claim's name or a folder, or a mapping that says more of it."""
    return (_VOLUME if isinstance(node, dict) else text(parse_source))(node, path, findings)


def _read_sweep(node: Node, path: Path, findings: Findings) -> Any:
    """The values of each name."""
    from gpuyard.workloads.sweeps.values import parse_values, sweep_name  # Few specs have any.

    if node == {}:
        findings.add(path, "has no values, so that there would be no task; write for example lr: 1e-3,1e-4")
    return entries(sweep_name, value(parse_values))(node, path, findings)


def _read_service(node: Node, path: Path, findings: Findings) -> Any:
    """What makes it a service."""
    from gpuyard.workloads.spec.service.reading import read_service  # Few specs are of services.

    return read_service(node, path, findings)


#: A spec file.
SPEC = Fields(
    {
        "name": text(_name),
        "resources": RESOURCES,
        "workdir": _TEXT,
        "env": entries(env_name, _read_variable),
        "run": value(parse_run),
        "shell": text(_shell),
        "python": _TEXT,
        "snapshot": value(_flag),
        "image": _read_image,
        "image_pull_secrets": items(text(_secret)),
        "nodes": text(parse_nodes),
        "start_within": value(_timeout),
        "volumes": entries(mount_path, _read_volume),
        "sweep": _read_sweep,
        "sweep_file": _TEXT,
        "at_once": whole_number(1, 100_000),
        "retries": whole_number(0, 1000),
        "timeout": value(_timeout),
        "grace": value(_timeout),
        "idle": value(_timeout),
        "signal": text(_early_signal),
        "priority": text(_priority),
        "node_selector": entries(_label_key, text(_label_value)),
        "tolerations": items(TOLERATION),
        "affinity": AFFINITY,
        "service": _read_service,
    },
    required={"run": "there is nothing to run; write a command such as `python train.py`"},
)


def unknown_key(path: Path, siblings: list[str]) -> str:
    """Says so, with the key that was probably meant.

    Args:
        path: of the key.
        siblings: the keys that would do in its place.
    """
    import difflib

    key = str(path[-1])
    near = difflib.get_close_matches(key, siblings, n=1, cutoff=0.6)
    if near:
        return f"unknown key; did you mean {near[0]!r}?"
    elsewhere = {name: f"resources.{name}" for name in RESOURCES.keys} | _ALSO_KNOWN_AS
    if len(path) == 1 and key in elsewhere:
        return f"unknown key; did you mean {elsewhere[key]!r}?"
    if key in SPEC.keys:
        return f"unknown key here; {key!r} belongs at the top level"
    return f"unknown key; the keys here are {', '.join(siblings)}"
