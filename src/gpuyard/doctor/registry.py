"""Whether a registry answers from here, with the credentials that are here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gpuyard import errors
from gpuyard.doctor.check import Check, broken, ok, skipped, warning

_NAME = "registry"
#: A person is waiting, and a registry that answers does so at once.
_ATTEMPTS, _TIMEOUT_S = 2, 10.0


@dataclass(frozen=True)
class RegistryFact:
    """What was asked, and the answer.

    Attributes:
        registry: HOST[:PORT]; empty when only an image is known, or nothing.
        image: a reference.
        asked: whether the user named it; else it is the one that the agents come from.
        failure: None when all is well.
    """

    registry: str = ""
    image: str = ""
    asked: bool = False
    failure: errors.GpuyardError | None = None

    def of_agents(self, image: str) -> RegistryFact:
        """To look at the registry of the agents' image, since nobody named another."""
        if not image:
            return self
        from gpuyard.images.reference import ImageReference

        try:
            return replace(self, registry=ImageReference.parse(image).registry)
        except errors.ImageReferenceError:
            return self


async def look_at_registry(fact: RegistryFact, environ: Mapping[str, str]) -> RegistryFact:
    """Asks for the image, or else whether the registry takes us at all."""
    if not fact.registry and not fact.image:
        return fact
    from gpuyard.images.reference import ImageReference
    from gpuyard.images.registry.client import RegistryClient
    from gpuyard.images.registry.settings import RegistrySettings

    settings = RegistrySettings(attempts=_ATTEMPTS, timeout_s=_TIMEOUT_S)
    try:
        async with RegistryClient.from_environ(environ, settings) as client:
            if not fact.image:
                await client.ping(fact.registry)
                return fact
            reference = ImageReference.parse(fact.image)
            found = replace(fact, registry=reference.registry)
            if await client.repository(reference).find_manifest(reference.target) is None:
                raise errors.ImageNotFound(
                    f"there is no image {reference}",
                    remedy="is its name right? `gpuyard build` makes and pushes one",
                )
            return found
    except errors.GpuyardError as error:
        return replace(fact, failure=error)


def judge(fact: RegistryFact) -> Check:
    """What that says. A registry that nobody named may well be one that only nodes reach."""
    if not fact.registry and not fact.image:
        return skipped(_NAME, "none was named: --registry HOST or --image REF looks at one")
    what = fact.image or fact.registry
    if fact.failure is None:
        return ok(_NAME, f"{what} can be read from here" if fact.image else f"{what} answers")
    if fact.asked:
        return broken(_NAME, fact.failure.message, fact.failure.remedy)
    return warning(
        _NAME,
        f"the agents' registry doesn't take us: {fact.failure.message}",
        fact.failure.remedy
        or "nodes may reach it all the same; --registry looks at the one that you push to",
    )
