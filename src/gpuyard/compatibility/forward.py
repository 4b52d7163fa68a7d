"""Forward compatibility: whose driver library a process loads, the node's or one that the image brings.

NVIDIA's container runtime, by its hook or by CDI (`enable-cuda-compat`), puts /usr/local/cuda/compat first
whenever it is for a newer CUDA than the node's driver, and doesn't look at the GPU. NVIDIA's PyTorch
containers keep the library elsewhere, and their start script uses it only where it works. Source: NVIDIA's
container toolkit, cmd/nvidia-cdi-hook/cudacompat; facts.toml has the branches and products that it works on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gpuyard.compatibility.facts import Facts
from gpuyard.compatibility.need import Need
from gpuyard.compatibility.offer import Offer
from gpuyard.compatibility.verdict import Fit, VerdictReason


class Library(StrEnum):
    """The driver library of a process in the image."""

    NODE = "the node's"
    IMAGE = "the image's"
    REFUSED = "the image's, on a GPU that refuses it"
    WRONG_BRANCH = "the image's or the node's, by the version of the container runtime"
    UNKNOWN = "nobody knows"


@dataclass(frozen=True)
class Loaded:
    """Which library it is.

    Attributes:
        library: whose.
        why: it isn't the image's, or that isn't sure; empty where nothing is to be said.
    """

    library: Library
    why: str = ""

    def may_fail(self, need: Need, driver: VerdictReason | None) -> bool:
        """Whether loading it may end the process.

        Args:
            need: of the image.
            driver: what is said of the node's own driver, which a start script falls back to.
        """
        if self.library is Library.UNKNOWN:
            return not need.compat_by_script or (driver is not None and driver.outcome is Fit.FAILS)
        return self.library in (Library.REFUSED, Library.WRONG_BRANCH)


def loaded_library(need: Need, offer: Offer, facts: Facts) -> Loaded:
    """Whose driver library a process of this image loads on this node."""
    if not _is_ahead(need, offer, facts):
        return Loaded(Library.NODE)
    if offer.data_center is False:
        why = f"forward compatibility is for data-centre GPUs only, not for {offer.product}"
        return Loaded(Library.NODE if need.compat_by_script else Library.REFUSED, why)
    assert need.compat is not None
    if offer.driver is None:
        return Loaded(Library.NODE)
    branch = offer.driver.major
    rule = facts.forward_rule(need.compat)
    works = rule.works_on(offer.driver) if rule else False
    named = [r for r in need.requirements if r.variable == "NVIDIA_REQUIRE_CUDA"]
    if any(r.holds(offer.properties()) is False for r in named):
        why = f"the image doesn't name driver branch {branch} as one that it works on"
        return Loaded(Library.NODE if need.compat_by_script else Library.WRONG_BRANCH, why)
    if works is False:
        why = f"its forward compatibility package doesn't work on driver branch {branch}"
        return Loaded(Library.NODE if need.compat_by_script else Library.WRONG_BRANCH, why)
    if works is None:
        why = f"contested: NVIDIA's own sources disagree whether that works on driver branch {branch}"
        return Loaded(Library.UNKNOWN, why)
    if offer.data_center is None and offer.product:
        why = f"that works in some systems with {offer.product} only (NGC-ready), else it is error 804"
        return Loaded(Library.UNKNOWN, why)
    return Loaded(Library.IMAGE)


def _is_ahead(need: Need, offer: Offer, facts: Facts) -> bool:
    """Whether the image brings a library, for a newer CUDA than the node's driver."""
    if need.compat is None:
        return False
    bundled = facts.full_floor(need.compat)
    if offer.driver is not None and bundled is not None:
        return bundled.major > offer.driver.major
    return offer.cuda is not None and need.compat.minor > offer.cuda.minor
