"""Which Kubernetes a cluster is, whether gpuyard works with it, and what it serves."""

from __future__ import annotations

import re

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import Resource

OLDEST = (1, 28)


async def cluster_version(api: RestApi) -> tuple[int, int]:
    """Major and minor of the API server.

    Raises:
        ConnectionFailed: what answers is no Kubernetes API.
    """
    try:
        raw = await api.get_path("/version")
    except errors.NotFound:
        raw = {}
    parts = [re.match(r"\d+", str(raw.get(key, ""))) for key in ("major", "minor")]
    if parts[0] is None or parts[1] is None:
        raise errors.ConnectionFailed(
            f"what answers at {api.server} is no Kubernetes API: /version gives no version",
            remedy="is `server` of the kubeconfig the API's own address?",
        )
    return int(parts[0][0]), int(parts[1][0])


async def check_version(api: RestApi) -> tuple[int, int]:
    """The version.

    Raises:
        UsageError: gpuyard doesn't work with one so old.
    """
    version = await cluster_version(api)
    if version < OLDEST:
        raise errors.UsageError(too_old(version), remedy=advice(TOO_OLD_REMEDY))
    return version


async def serves(api: RestApi, resource: Resource) -> bool:
    """Whether the server knows this kind in this version: by discovery, which whoever is known may read."""
    try:
        found = await api.get_path(resource.path().rpartition("/")[0])
    except errors.NotFound:
        return False
    return any(each.get("name") == resource.plural for each in found.get("resources") or ())


def too_old(version: tuple[int, int]) -> str:
    """Says so."""
    ours, theirs = version_text(OLDEST), version_text(version)
    return f"this cluster is Kubernetes {theirs}, and gpuyard needs {ours} or later"


TOO_OLD_REMEDY = "upgrade the cluster, or choose another with --context"


def version_text(version: tuple[int, int]) -> str:
    """`1.34`."""
    return f"{version[0]}.{version[1]}"
