"""Asking the API server whether whoever asks may do something."""

from __future__ import annotations

from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import ACCESS_REVIEWS


async def may(api: RestApi, verb: str, group: str, resource: str, namespace: str) -> bool:
    """Whether they may.

    Args:
        api: of that server.
        verb: of RBAC.
        group: empty for the core's.
        resource: plural, with its subresource if any: `pods/log`.
        namespace: empty for all of them, and for what belongs to none.
    """
    plural, _, subresource = resource.partition("/")
    attributes = {
        "verb": verb,
        "group": group,
        "resource": plural,
        "subresource": subresource,
        "namespace": namespace,
    }
    review = {
        "apiVersion": ACCESS_REVIEWS.api_version,
        "kind": ACCESS_REVIEWS.kind,
        "metadata": {},
        "spec": {"resourceAttributes": attributes},
    }
    return bool((await api.create(ACCESS_REVIEWS, review)).get("status", {}).get("allowed"))
