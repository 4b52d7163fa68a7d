"""What a user may say about registries."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gpuyard.images.reference import DOCKER_HUB

#: Registries (HOST[:PORT], separated by spaces) that may be spoken to without TLS.
ENV_PLAIN_HTTP = "GPUYARD_PLAIN_HTTP"
#: A PEM file with further certificate authorities.
ENV_CA_FILE = "GPUYARD_REGISTRY_CA"

_MIB = 1 << 20


@dataclass(frozen=True)
class RegistrySettings:
    """How registries are reached; proxies come from HTTPS_PROXY, HTTP_PROXY and NO_PROXY.

    Attributes:
        plain_http: registries (host, or host:port) that may be spoken to without TLS, besides loopback.
        ca_file: PEM file of further certificate authorities to trust.
        chunk_bytes: what an upload sends per request and holds in memory; Amazon ECR wants at least 5 MiB.
        parallel: transfers at once.
        attempts: how often one step is tried before its failure is reported.
        timeout_s: silence on a connection that counts as cut.
    """

    plain_http: frozenset[str] = frozenset()
    ca_file: Path | None = None
    chunk_bytes: int = 8 * _MIB
    parallel: int = 4
    attempts: int = 5
    timeout_s: float = 60.0

    def with_environ(self, environ: Mapping[str, str]) -> RegistrySettings:
        """These and what the environment says of registries."""
        return replace(
            self,
            plain_http=self.plain_http | frozenset(environ.get(ENV_PLAIN_HTTP, "").split()),
            ca_file=Path(environ[ENV_CA_FILE]) if environ.get(ENV_CA_FILE) else self.ca_file,
        )

    def allows_plain(self, host: str, port: int | None) -> bool:
        """Whether nothing is encrypted between here and host: loopback, or named by the user."""
        name = f"[{host}]" if ":" in host else host
        return is_loopback(host) or bool({name, f"{name}:{port or 80}"} & self.plain_http)


def is_loopback(host: str) -> bool:
    """Whether host is this machine by definition, not by what a resolver says."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def address_of(registry: str, settings: RegistrySettings) -> str:
    """Base URL of a registry; plain HTTP where that is allowed, else HTTPS."""
    if registry == DOCKER_HUB:
        return "https://registry-1.docker.io"
    host, port = split_port(registry)
    scheme = "http" if settings.allows_plain(host, port) else "https"
    return f"{scheme}://{registry}"


def split_port(registry: str) -> tuple[str, int | None]:
    """Host (IPv6 without brackets) and port of HOST[:PORT]."""
    host, colon, port = registry.rpartition(":")
    if colon and port.isdigit():
        return host.strip("[]"), int(port)
    return registry.strip("[]"), None
