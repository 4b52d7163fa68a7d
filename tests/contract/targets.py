"""The two servers that the cases run against."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpuyard.kube.objects import CONFIG_MAPS, ObjectKey
from gpuyard.local.store import Change, Store
from tests.cluster.harness.cluster import Cluster
from tests.contract.api import Api, Target, connect, disconnect
from tests.e2e.conftest import make_yard

_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_KIND = CONFIG_MAPS.qualified
#: How many revisions a yard keeps.
_HISTORY = 10_000


@contextmanager
def yard() -> Iterator[Target]:
    """A yard of its own, whose history doesn't go back to its begin."""
    with make_yard() as own:
        own.paths.data_dir.mkdir(exist_ok=True)
        asyncio.run(_grow_old(own.paths.database))
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
    api = Api(target, "setup")
    group = f"{target.namespace}.example.com"
    # The history of a kind that is defined now begins now.
    api.made(api.post(_DEFINITIONS, _definition(group)))
    young = f"/apis/{group}/v1/yards"
    try:
        api.until(young, lambda found: True)
        yield replace(target, young=young)
    finally:
        api.delete(f"{_DEFINITIONS}/yards.{group}")
        disconnect(target)


def _definition(group: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"yards.{group}"},
        "spec": {
            "group": group,
            "scope": "Cluster",
            "names": {"plural": "yards", "kind": "Yard"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }
            ],
        },
    }


async def _grow_old(file: Path) -> None:
    """Writes more than a yard keeps of its history."""
    store = await Store.open(file, synchronous="OFF")
    keys = [ObjectKey("default", f"old-{number}") for number in range(_HISTORY // 2 + 100)]
    made = await asyncio.gather(*(store.write(Change.create(_KIND, key, _nothing)) for key in keys))
    await asyncio.gather(
        *(store.write(Change.delete(_KIND, old.key, old.revision, _nothing)) for old in made)
    )
    await store.close()


def _nothing(_revision: int) -> bytes:
    return b"{}"
