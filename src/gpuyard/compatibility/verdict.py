"""What a verdict over an image on a node is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from gpuyard.compatibility.offer import Offer


class Fit(StrEnum):
    """How an image and a node go together."""

    FITS = "fits"
    NOTES = "fits with notes"
    FAILS = "doesn't fit"
    UNKNOWN = "unknown"


class Rule(StrEnum):
    """What a reason is about."""

    MACHINE = "CpuArchitecture"
    NO_CUDA = "NoCuda"
    CPU_TORCH = "TorchWithoutCuda"
    GPU_DROPPED = "GpuDroppedByDriver"
    GPU_TOO_NEW = "GpuNewerThanDriver"
    DRIVER_UNKNOWN = "DriverUnknown"
    DRIVER_TOO_OLD = "DriverTooOld"
    MINOR_VERSION = "MinorVersionCompatibility"
    FORWARD = "ForwardCompatibility"
    REQUIRE = "NvidiaRequire"
    CAPABILITY_UNKNOWN = "ComputeCapabilityUnknown"
    NO_KERNEL_IMAGE = "NoKernelImage"
    PTX = "PtxOnly"
    CUDA_DROPPED_GPU = "GpuDroppedByCuda"
    CUDA_BEFORE_GPU = "CudaOlderThanGpu"


@dataclass(frozen=True)
class VerdictReason:
    """One thing to know about an image on a node.

    Attributes:
        rule: what it is about.
        outcome: what it alone makes of the verdict.
        message: with both numbers.
        needs: the number that is needed; empty when there is none.
        has: the number that is there.
        remedy: what would mend it; empty when nothing has to be.
    """

    rule: Rule
    outcome: Fit
    message: str
    needs: str = ""
    has: str = ""
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """All fields."""
        return {
            "rule": self.rule,
            "outcome": self.outcome,
            "message": self.message,
            "needs": self.needs,
            "has": self.has,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class Verdict:
    """Whether an image runs there, and why."""

    offer: Offer
    reasons: tuple[VerdictReason, ...]

    @property
    def outcome(self) -> Fit:
        """The gravest of the reasons'."""
        found = {reason.outcome for reason in self.reasons}
        order = (Fit.FAILS, Fit.UNKNOWN, Fit.NOTES)
        return next((outcome for outcome in order if outcome in found), Fit.FITS)

    @property
    def fails(self) -> bool:
        """Whether it is known that the image won't run there."""
        return self.outcome is Fit.FAILS

    @property
    def decisive(self) -> VerdictReason | None:
        """The first reason of the gravest kind."""
        return next((reason for reason in self.reasons if reason.outcome is self.outcome), None)

    def without_gpus(self) -> Verdict:
        """For a run that may go on without GPUs: only its CPU's architecture can still fail it."""
        return replace(
            self,
            reasons=tuple(
                replace(r, outcome=Fit.NOTES) if r.outcome is Fit.FAILS and r.rule is not Rule.MACHINE else r
                for r in self.reasons
            ),
        )
