"""Options of the commands that speak to registries, and the settings that they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from gpuyard.images.registry.settings import RegistrySettings

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


def registry_settings(plain_http: tuple[str, ...], registry_ca: Path | None) -> RegistrySettings:
    """What the options say."""
    from gpuyard.images.registry.settings import RegistrySettings

    return RegistrySettings(plain_http=frozenset(plain_http), ca_file=registry_ca)
