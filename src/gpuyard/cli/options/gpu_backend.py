"""`--gpu-backend MODULE`: another vendor's GPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def gpu_backend_option(command: _Command) -> _Command:
    """The option."""
    return click.option(
        "--gpu-backend",
        metavar="MODULE",
        help="Serve another vendor's GPUs, too, by this Python module, or file of one.",
    )(command)
