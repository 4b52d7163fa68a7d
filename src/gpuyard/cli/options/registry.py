"""Options of the commands that speak to registries, and the environment variables that say the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def registry_options(function: Function) -> Function:
    """`--plain-http` and `--registry-ca`."""
    function = click.option(
        "--registry-ca",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Trust the certificate authorities in this PEM file too.",
    )(function)
    return click.option(
        "--plain-http",
        multiple=True,
        metavar="HOST[:PORT]",
        help="Speak to this registry without TLS (this machine's own always may).",
    )(function)


def registry_environ(plain_http: tuple[str, ...], registry_ca: Path | None) -> dict[str, str]:
    """This process's environment with what the options say laid over it."""
    environ = dict(os.environ)
    if not (plain_http or registry_ca):
        return environ
    from gpuyard.images.registry.settings import (  # A run without an image has no use for it.
        ENV_CA_FILE,
        ENV_PLAIN_HTTP,
    )

    if plain_http:
        environ[ENV_PLAIN_HTTP] = " ".join((environ.get(ENV_PLAIN_HTTP, ""), *plain_http))
    if registry_ca:
        environ[ENV_CA_FILE] = str(registry_ca)
    return environ
