"""The two servers that the cases run against."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.harness.cluster import Cluster
from tests.contract.api import Target, connect, disconnect
from tests.e2e.conftest import make_yard


@contextmanager
def yard() -> Iterator[Target]:
    """A yard of its own."""
    with make_yard() as own:
        own.ok("up", "--simulate", "H100:1")
        target = connect(own.paths.kubeconfig, "gpuyard", "contract")
        try:
            yield target
        finally:
            disconnect(target)


@contextmanager
def kubernetes(cluster: Cluster) -> Iterator[Target]:
    """A cluster that is up; others may use it, too."""
    image = f"{cluster.registry}/busybox:1"
    target = connect(cluster.kubeconfig, "gpuyard-test", f"contract-{secrets.token_hex(3)}", image)
    try:
        yield target
    finally:
        disconnect(target)
