"""The keys of a spec file and what each may hold. Values arrive as text (see `yaml_tree`)."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, PlainValidator, Tag

from gpuyard.kube.names import is_subdomain
from gpuyard.kube.quantity import parse_quantity
from gpuyard.workloads.affinity import Affinity, Strict, Toleration
from gpuyard.workloads.command import Run, split_run, split_shell
from gpuyard.workloads.gpu_request import FORM, GpuRequest, parse_gpus
from gpuyard.workloads.names import name_problem

#: What the allocation sets, and a user's value would go round it.
ALLOCATED_ENV = frozenset(
    {"NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "NVIDIA_MIG_CONFIG_DEVICES",
     "NVIDIA_MIG_MONITOR_DEVICES", "NVIDIA_IMEX_CHANNELS", "GPUYARD_SIMULATED"}
)  # fmt: skip

#: What pydantic puts into an error's place to say which of `image`'s two forms was meant.
IMAGE_TEXT, IMAGE_MAPPING = "(a name)", "(a build)"

_ENV_NAME = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*", re.ASCII)
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII)
_NOT_KUBERNETES = re.compile(r"(?i)(\d+(?:\.\d+)?)\s*([kmgtp])(?:i?b)?")
#: Digits are few, so that no sum overflows.
_TIMEOUT = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,7})h)?(?:(\d{1,8})m)?(?:(\d{1,10})s)?", re.ASCII)
#: Kubernetes counts seconds in 31 bits.
_MAX_TIMEOUT = timedelta(days=24_855)
_SMALLEST_MEMORY = Decimal(2**20)
_MOST_CPUS = Decimal(100_000)
_MOST_BYTES = Decimal(2**60)


def _name(value: str) -> str:
    if problem := name_problem(value):
        raise ValueError(problem)
    return value


def _cpus(value: str) -> str:
    number = parse_quantity(value.strip())
    if not 0 < number <= _MOST_CPUS:
        raise ValueError(f"{value!r} is no number of CPUs; write for example 4 or 500m")
    return value.strip()


def _size(value: str) -> str:
    text = value.strip()
    try:
        number = parse_quantity(text)
    except ValueError as error:
        if match := _NOT_KUBERNETES.fullmatch(text):
            letter = match[2].upper().replace("K", "k")
            raise ValueError(
                f"{value!r} is not a Kubernetes quantity; write {match[1]}{match[2].upper()}i "
                f"(1024s) or {match[1]}{letter} (1000s)"
            ) from error
        raise
    if number < _SMALLEST_MEMORY:
        raise ValueError(f"{value!r} means {number:f} bytes; write the unit, for example 16Gi or 512Mi")
    if number > _MOST_BYTES:
        raise ValueError(f"{value!r} is more than any machine has; write for example 16Gi")
    return text


def _gpus(value: Any) -> GpuRequest:
    if not isinstance(value, str):
        raise ValueError(f"must be text; {FORM}")
    return parse_gpus(value)


def parse_run(value: Any) -> Run:
    """What `run` says.

    Raises:
        ValueError: it is neither a command line nor a list of words.
    """
    if isinstance(value, str):
        split_run(value)
        return value
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        argv = tuple(value)
        split_run(argv)
        return argv
    raise ValueError("must be a command line, or a list of words")


def _shell(value: str) -> str:
    split_shell(value)
    return value


def _env_name(value: str) -> str:
    if not _ENV_NAME.fullmatch(value):
        raise ValueError("can't name an environment variable; use letters, digits and '_'")
    if value in ALLOCATED_ENV:
        raise ValueError("is set by the allocation of GPUs; ask for GPUs with resources.gpus (--gpus)")
    return value


def _label_key(value: str) -> str:
    prefix, slash, name = value.rpartition("/")
    if not _LABEL_NAME.fullmatch(name) or (slash and not is_subdomain(prefix)):
        raise ValueError("can't be a label's key; write for example topology.kubernetes.io/zone")
    return value


def _label_value(value: str) -> str:
    if not _LABEL_VALUE.fullmatch(value):
        raise ValueError(
            f"{value!r} can't be a label's value; at most 63 letters, digits, '-', '_' and '.', "
            "starting and ending with a letter or digit"
        )
    return value


def _priority(value: str) -> str:
    if not is_subdomain(value):
        raise ValueError(f"{value!r} can't name a PriorityClass; `kubectl get priorityclasses` lists them")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty; write a value, or leave the key out")
    return value


def _secret(value: str) -> str:
    if not is_subdomain(value):
        raise ValueError(f"{value!r} can't name a Secret; `kubectl get secrets` lists them")
    return value


def _image(value: str) -> str:
    if not value or re.search(r"\s", value):
        raise ValueError(f"{value!r} can't name an image; write for example ghcr.io/you/train:1.2")
    return value


def _timeout(value: Any) -> timedelta:
    match = _TIMEOUT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not any(match.groups()):
        raise ValueError(f"{value!r} is no time; write for example 90s, 30m, 12h, 1h30m or 2d")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    found = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not timedelta(seconds=1) <= found <= _MAX_TIMEOUT:
        raise ValueError(f"{value!r} must be from 1s to {_MAX_TIMEOUT.days}d")
    return found


_Size = Annotated[str, AfterValidator(_size)]
_Text = Annotated[str, AfterValidator(_not_blank)]


class ResourcesModel(Strict):
    """What a run needs of a machine."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    gpus: Annotated[GpuRequest, PlainValidator(_gpus)] | None = None
    cpus: Annotated[str, AfterValidator(_cpus)] | None = None
    memory: _Size | None = None
    shm: _Size | None = None


def _platform(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+/[a-z0-9_-]+(?:/[a-z0-9]+)?", value):
        raise ValueError(f"{value!r} is no platform; write for example linux/amd64")
    return value


_Image = Annotated[str, AfterValidator(_image)]


class ImageModel(Strict):
    """An image that is built from this folder before the run, when something changed."""

    base: _Image
    repository: _Image
    requirements: _Text | None = None
    platforms: Annotated[list[Annotated[str, AfterValidator(_platform)]], Field(min_length=1)] | None = None
    allow_secrets: list[_Text] | None = None
    pull_repository: _Image | None = None


def _image_kind(value: Any) -> str:
    return IMAGE_MAPPING if isinstance(value, dict) else IMAGE_TEXT


class SpecModel(Strict):
    """A spec file."""

    name: Annotated[str, AfterValidator(_name)] | None = None
    resources: ResourcesModel | None = None
    workdir: _Text | None = None
    env: dict[Annotated[str, AfterValidator(_env_name)], str | None] | None = None
    run: Annotated[Any, PlainValidator(parse_run)]
    shell: Annotated[str, AfterValidator(_shell)] | None = None
    python: _Text | None = None
    image: (
        Annotated[
            Annotated[_Image, Tag(IMAGE_TEXT)] | Annotated[ImageModel, Tag(IMAGE_MAPPING)],
            Discriminator(_image_kind),
        ]
        | None
    ) = None
    image_pull_secrets: list[Annotated[str, AfterValidator(_secret)]] | None = None
    retries: Annotated[int, Field(ge=0, le=1000)] | None = None
    timeout: Annotated[timedelta, PlainValidator(_timeout)] | None = None
    priority: Annotated[str, AfterValidator(_priority)] | None = None
    node_selector: (
        dict[Annotated[str, AfterValidator(_label_key)], Annotated[str, AfterValidator(_label_value)]] | None
    ) = None
    tolerations: list[Toleration] | None = None
    affinity: Affinity | None = None
