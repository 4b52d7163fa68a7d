"""The kinds that the yard serves: one declaration each, and the registry that finds them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gpuyard.kube.objects import Resource
from gpuyard.local.objects.kinds.config import CONFIG_MAP, SECRET, SERVICE_ACCOUNT
from gpuyard.local.objects.kinds.event import EVENT
from gpuyard.local.objects.kinds.job import JOB
from gpuyard.local.objects.kinds.kind import Column, CreateContext, FieldError, KindSpec, Subresource
from gpuyard.local.objects.kinds.lease import LEASE
from gpuyard.local.objects.kinds.namespace import NAMESPACE
from gpuyard.local.objects.kinds.node import NODE
from gpuyard.local.objects.kinds.pod import POD
from gpuyard.local.objects.kinds.priority_class import PRIORITY_CLASS

__all__ = [
    "ALL_KINDS",
    "KINDS",
    "Column",
    "CreateContext",
    "FieldError",
    "KindSpec",
    "Subresource",
    "kind_of",
]

ALL_KINDS = (
    CONFIG_MAP, EVENT, NAMESPACE, NODE, POD, SECRET, SERVICE_ACCOUNT, JOB, LEASE, PRIORITY_CLASS,
)  # fmt: skip

#: By group, version and plural, as they stand in a URL.
KINDS: Mapping[tuple[str, str, str], KindSpec] = MappingProxyType(
    {(k.resource.group, k.resource.version, k.resource.plural): k for k in ALL_KINDS}
)


def kind_of(resource: Resource) -> KindSpec:
    """The declaration of a resource that is served.

    Raises:
        KeyError: it isn't.
    """
    return KINDS[resource.group, resource.version, resource.plural]
