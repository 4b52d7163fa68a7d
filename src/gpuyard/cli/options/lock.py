"""Options of the commands that follow gpuyard.lock, and the environment variables that say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def lock_options(function: Function) -> Function:
    """`--locked` and `--frozen`."""
    function = click.option(
        "--frozen", is_flag=True, help="Follow gpuyard.lock as it is; for a checkout that can't be written."
    )(function)
    return click.option(
        "--locked", is_flag=True, help="Fail if gpuyard.lock is missing or would change; for CI."
    )(function)


def lock_environ(environ: Mapping[str, str], *, locked: bool, frozen: bool) -> dict[str, str]:
    """An environment with what the options say laid over it."""
    if not (locked or frozen):
        return dict(environ)
    # A run without an image has no use for it.
    from gpuyard.building.options import ENV_FROZEN, ENV_LOCKED

    said = {ENV_LOCKED: "1" if locked else "", ENV_FROZEN: "1" if frozen else ""}
    return {**environ, **said}
