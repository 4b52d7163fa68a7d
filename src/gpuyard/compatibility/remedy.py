"""What would mend a verdict: a driver, or the CUDA of an image; only what fits by the same rules is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from gpuyard.compatibility.facts import Facts, Gpu
from gpuyard.compatibility.need import Need
from gpuyard.compatibility.offer import Offer
from gpuyard.compatibility.verdict import Fit, Rule, VerdictReason
from gpuyard.compatibility.version import Version

#: What the rules say of an image on a node.
Reasons: TypeAlias = Callable[[Need, Offer], list[VerdictReason]]

_BY_DRIVER: Final = frozenset(
    {Rule.GPU_DROPPED, Rule.GPU_TOO_NEW, Rule.DRIVER_TOO_OLD, Rule.FORWARD, Rule.PTX}
)
_BY_IMAGE: Final = frozenset(
    {Rule.GPU_TOO_NEW, Rule.DRIVER_TOO_OLD, Rule.FORWARD, Rule.PTX, Rule.NO_KERNEL_IMAGE}
    | {Rule.CUDA_DROPPED_GPU, Rule.CUDA_BEFORE_GPU, Rule.REQUIRE}
)
#: What no driver and no other image lets know.
_SILENT: Final = frozenset({Rule.CAPABILITY_UNKNOWN, Rule.DRIVER_UNKNOWN, Rule.NO_CUDA})


def remedied(
    reasons: list[VerdictReason], need: Need, offer: Offer, facts: Facts, reasons_of: Reasons
) -> Iterator[VerdictReason]:
    """The reasons with what would mend each."""
    ways = _Ways(need, offer, facts, reasons_of)
    for reason in reasons:
        unsure = reason.rule is Rule.CUDA_BEFORE_GPU or (
            reason.rule is Rule.FORWARD and reason.outcome is Fit.UNKNOWN
        )
        if reason.remedy or not (reason.outcome is Fit.FAILS or unsure or reason.rule is Rule.REQUIRE):
            yield reason
        else:
            yield replace(reason, remedy=ways.of(reason.rule))


@dataclass(frozen=True)
class _Ways:
    """What would let this image, or another, run on this node."""

    need: Need
    offer: Offer
    facts: Facts
    reasons_of: Reasons

    def of(self, rule: Rule) -> str:
        ways = []
        if rule in _BY_IMAGE:
            ways.append(self._image(self.offer, rule))
        if rule is Rule.FORWARD and self._fits(replace(self.need, compat=None), self.offer):
            ways.append("take its cuda-compat package out of it")
        if rule is Rule.REQUIRE and self._fits(replace(self.need, requirements=()), self.offer):
            ways.append("let the node inject GPUs by CDI, or set NVIDIA_DISABLE_REQUIRE=1 in the run's env")
        if rule in _BY_DRIVER:
            least = self._least_driver(self.need)
            ways.append(self._install(least) if least else "")
        found = ", or ".join(filter(None, ways))
        return found or (self._both(rule) if rule in _BY_DRIVER | _BY_IMAGE else "")

    def _fits(self, need: Need, offer: Offer) -> bool:
        """Whether nothing is said against it but what the node doesn't tell."""
        found = self.reasons_of(need, offer)
        return not any(
            r.outcome is Fit.FAILS or (r.outcome is Fit.UNKNOWN and r.rule not in _SILENT) for r in found
        )

    def _image(self, offer: Offer, rule: Rule | None = None) -> str:
        """Images that run by the node's own driver: from the first CUDA on that knows the GPU."""
        gpu = self._gpu()
        if gpu is None and offer.capability:
            return ""
        fitting = [
            cuda
            for cuda in dict.fromkeys(toolkit.cuda.minor for toolkit in self.facts.toolkits if toolkit.driver)
            if _reaches(offer, gpu, cuda)
            and self._fits(Need("", machine=self.need.machine, cuda=cuda, compat=cuda), offer)
        ]
        if not fitting:
            return ""
        first, last = fitting[0], fitting[-1]
        cuda = f"CUDA {first}" + (f" to {last}" if last != first else "")
        if rule in (Rule.NO_KERNEL_IMAGE, Rule.PTX) and offer.capability and self.need.architectures:
            return f"use a build for {offer.capability.sm} with {cuda}"
        return f"use an image for {cuda}"

    def _least_driver(self, need: Need) -> Version | None:
        """The oldest driver from which on all that drive the GPU run this image; None: none does."""
        last = self._last()
        least: Version | None = None
        for driver in sorted(_drivers(need, self.facts), reverse=True):
            if last is not None and driver.major > last:
                continue
            if not self._fits(need, self._with(driver)):
                break
            least = driver
        return least

    def _install(self, least: Version) -> str:
        last = self._last()
        supported = self.facts.supported_branch(least, self._gpu())
        until = f" (NVIDIA supports branch {supported.driver} until {supported.until})" if supported else ""
        if self.offer.driver is not None and self.offer.driver >= least:
            return f"install a driver of branch {last}" + (f" (until {supported.until})" if supported else "")
        upto = "" if last is None else f", up to branch {last}"
        return f"install driver {least} or newer{upto}{until}"

    def _both(self, rule: Rule) -> str:
        """Another driver and another image, where neither alone helps."""
        gpu = self._gpu()
        if gpu is None or gpu.first_cuda is None:
            return ""
        cuda = gpu.first_cuda.minor
        least = self._least_driver(Need("", machine=self.need.machine, cuda=cuda, compat=cuda))
        if least is None:
            return ""
        newest = self._last() or self.facts.branches[-1][0]
        image = self._image(self._with(Version((newest,))), rule)
        if rule in _BY_DRIVER:
            return f"{self._install(least)}, and {image}"
        return f"{image}, and {self._install(least)}"

    def _with(self, driver: Version) -> Offer:
        return replace(self.offer, driver=driver, cuda=self.facts.driver_cuda(driver), observed=False)

    def _gpu(self) -> Gpu | None:
        return self.facts.gpu(self.offer.capability) if self.offer.capability else None

    def _last(self) -> int | None:
        gpu = self._gpu()
        return gpu.last_driver if gpu else None


def _reaches(offer: Offer, gpu: Gpu | None, cuda: Version) -> bool:
    """Whether the driver offers this CUDA by itself, and the GPU is known to it."""
    known = gpu is None or gpu.first_cuda is None or cuda >= gpu.first_cuda.minor
    return known and (offer.cuda is None or cuda <= offer.cuda.minor)


def _drivers(need: Need, facts: Facts) -> set[Version]:
    """Each branch, and the drivers that its CUDA asks for."""
    asked = [
        floor
        for cuda in (need.cuda, need.compat)
        if cuda
        for floor in (facts.full_floor(cuda), facts.minor_floor(cuda))
        if floor
    ]
    return {Version((branch,)) for branch, _ in facts.branches} | set(asked)
