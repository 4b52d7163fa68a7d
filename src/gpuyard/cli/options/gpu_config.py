"""`--gpu-config FILE`: how agents offer GPUs, as NVIDIA's device plugin is configured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])
#: No configuration is larger.
_MAX_BYTES = 1 << 20


def gpu_config_option(command: _Command) -> _Command:
    """The option; `read_gpu_config` reads what it names."""
    return click.option(
        "--gpu-config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="How GPUs are shared, split and named: YAML as of NVIDIA's device plugin.",
    )(command)


def read_gpu_config(file: Path) -> str:
    """The file as the agent takes it: JSON on one line.

    Raises:
        UsageError: it can't be read, or isn't a configuration.
    """
    import json

    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from gpuyard import errors
    from gpuyard.agent.plugin.config import parse_config
    from gpuyard.regular_files import read_regular

    try:
        raw = YAML(typ="safe", pure=True).load(read_regular(file, max_bytes=_MAX_BYTES).decode())
    except (OSError, ValueError, YAMLError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise errors.UsageError(
            f"can't read {file}: {why}", remedy="name a YAML file, see docs/how-to/share-and-split-gpus.md"
        ) from error
    try:
        parse_config(raw)
    except errors.UsageError as error:
        raise errors.UsageError(f"{file}: {error.message}", remedy=error.remedy) from error
    return json.dumps(raw, separators=(",", ":"))
