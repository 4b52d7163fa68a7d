"""The nearest image that would fit: another variant of a torch, another month of a container."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gpuyard.compatibility.facts import Facts, variant_name
from gpuyard.compatibility.judge import fits
from gpuyard.compatibility.need import Need
from gpuyard.compatibility.nvidia_require import NvidiaRequirement, parse_requirement
from gpuyard.compatibility.offer import Offer
from gpuyard.compatibility.version import Version

_INDEX = "https://download.pytorch.org/whl/"


@dataclass(frozen=True)
class Suggestion:
    """An image, or a build of torch, that would run.

    Attributes:
        name: the image's reference, or torch's variant.
        how: what to do.
        nodes: names of the nodes that it would run on.
    """

    name: str
    how: str
    nodes: tuple[str, ...]


def nearest_fit(need: Need, offers: Sequence[Offer], facts: Facts) -> Suggestion | None:
    """What would run on the most of these nodes; of equals, the first candidate, the one most alike.

    None when nothing that is known of would.
    """
    best: Suggestion | None = None
    kinds = {offer.kind for offer in offers}
    for candidate, name, how in _candidates(need, facts):
        fitting = {kind for kind in kinds if fits(candidate, kind, facts)}
        nodes = tuple(offer.name for offer in offers if offer.kind in fitting)
        if nodes and (best is None or len(nodes) > len(best.nodes)):
            best = Suggestion(name, how, nodes)
    return best


def _candidates(need: Need, facts: Facts) -> Iterator[tuple[Need, str, str]]:
    """Other images in order of likeness: what each needs, its name, and how to get it."""
    if need.container and not need.pip_torch:
        yield from _containers(need, facts)
    elif need.torch:
        yield from _torch_variants(need, facts)
    elif need.cuda and re.search(r"(^|/)nvidia/cuda:", need.reference):
        yield from _toolkits(need, facts)


def _containers(need: Need, facts: Facts) -> Iterator[tuple[Need, str, str]]:
    """NVIDIA's containers, the newest of the older ones first, then the newer ones in their order."""
    assert need.container is not None
    known = sorted(facts.containers.values(), key=lambda container: container.tag)
    older = [container for container in reversed(known) if container.tag < need.container]
    newer = [container for container in known if container.tag > need.container]
    for container in (*older, *newer):
        candidate = replace(
            need,
            cuda=container.cuda,
            torch=container.torch,
            architectures=facts.container_architectures(container.tag, need.machine or "amd64"),
            least_capability=facts.container_capability(container.tag),
            compat=container.cuda,
            compat_by_script=True,
            requirements=(),
            container=container.tag,
        )
        name = f"nvcr.io/nvidia/pytorch:{container.tag}-py3"
        yield candidate, name, f"use {name} (CUDA {container.cuda})"


def _torch_variants(need: Need, facts: Facts) -> Iterator[tuple[Need, str, str]]:
    """The same torch for another CUDA, then the releases after it, then those before it, near ones first."""
    try:
        own = Version.parse(need.torch).minor
    except ValueError:  # whatever a label or a package's metadata says
        return
    # A version such as 2.4.0a0 isn't published: the release that it leads to is.
    published = need.torch.partition("+")[0]
    released = re.fullmatch(r"[\d.]+", published) is not None
    releases = sorted(facts.torch.values(), key=lambda release: release.release)
    same = [release for release in releases if release.release == own]
    newer = [release for release in releases if release.release > own]
    older = [release for release in reversed(releases) if release.release < own]
    for release in (*same, *newer, *older):
        version = published if released and release.release == own else str(release.version)
        for cuda in reversed(release.variants):
            if release.release == own and cuda == need.cuda and not need.cpu_only:
                continue
            architectures = facts.torch_architectures(release.release, cuda, need.machine or "amd64")
            if architectures is None:
                continue
            candidate = replace(
                need,
                cuda=cuda,
                torch=f"{version}+{variant_name(cuda)}",
                cpu_only=False,
                architectures=architectures,
                requirements=(),
            )
            name = f"torch {version}+{variant_name(cuda)}"
            yield candidate, name, _how(need, version, cuda)


def _how(need: Need, version: str, cuda: Version) -> str:
    variant = variant_name(cuda)
    index = f"{_INDEX}{variant}"
    if need.pip_torch:
        return f"install torch=={version} from {index} (CUDA {cuda}): --index-url {index}"
    if need.base_torch:
        # With its local version, which the base's own doesn't meet: what a base has isn't installed again.
        return f"require torch=={version}+{variant}, which comes before the base's: --index-url {index}"
    return f"use a pytorch/pytorch:{version}-cuda{cuda.minor}-… image"


def _toolkits(need: Need, facts: Facts) -> Iterator[tuple[Need, str, str]]:
    """nvidia/cuda of other releases: the newest older ones first, then the newer ones."""
    assert need.cuda is not None
    wanted = need.cuda
    releases = [t.cuda for t in facts.toolkits if t.driver is not None]
    older = [cuda for cuda in reversed(releases) if cuda < wanted]
    newer = [cuda for cuda in releases if cuda > wanted]
    for cuda in (*older, *newer):
        candidate = replace(need, cuda=cuda, compat=cuda.minor, requirements=(_requirement(cuda, facts),))
        name = re.sub(r"(nvidia/cuda:)[0-9.]+", rf"\g<1>{cuda}", need.reference)
        yield candidate, name, f"use {name}"


def _requirement(cuda: Version, facts: Facts) -> NvidiaRequirement:
    """What nvidia/cuda asks for: the CUDA of its own, or a driver branch that its compat package works on."""
    rule = facts.forward_rule(cuda)
    branches = {base.major for base in rule.base} if rule else set()
    words = [f"cuda>={cuda.minor}", *(f"driver>={b},driver<{b + 1}" for b in sorted(branches))]
    return parse_requirement("NVIDIA_REQUIRE_CUDA", " ".join(words))
