"""The kinds that one API serves, found by their names."""

from __future__ import annotations

from collections.abc import Iterator

from gpuyard import errors
from gpuyard.kube.objects import Resource
from gpuyard.local.objects.kinds.kind import KindSpec


class Kinds:
    """A registry: whoever needs to know what is served is given one.

    Args:
        specs: in the order in which discovery lists them.
    """

    def __init__(self, specs: tuple[KindSpec, ...]) -> None:
        self._specs = specs
        self._by_place = {(s.resource.group, s.resource.version, s.resource.plural): s for s in specs}

    def __iter__(self) -> Iterator[KindSpec]:
        return iter(self._specs)

    def find(self, group: str, version: str, plural: str) -> KindSpec | None:
        """The kind at this place of a URL; None when it isn't served."""
        return self._by_place.get((group, version, plural))

    def of(self, resource: Resource) -> KindSpec:
        """The kind of a resource.

        Raises:
            NotFound: it isn't served.
        """
        spec = self.find(resource.group, resource.version, resource.plural)
        if spec is None:
            raise errors.NotFound("the server could not find the requested resource")
        return spec
