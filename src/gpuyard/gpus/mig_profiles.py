"""What a GPU can be split into by MIG, and the rules of where on it the parts may lie (pure).

A GPU has memory slices, of which a GPU instance takes a row, and compute slices. A compute instance is what a
container gets; most often it has all of its GPU instance (`3g.40gb`), else it is named `1c.3g.40gb`.
Source: NVIDIA's MIG user guide, https://docs.nvidia.com/datacenter/tesla/mig-user-guide.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

#: `1c.` before the name of a GPU instance's profile.
_COMPUTE_PREFIX = re.compile(r"([1-9])c\.(?=[1-9]g\.)")
#: How many compute slices a compute instance can have.
#: Source: NVIDIA/k8s-test-infra, the mock NVML's `migGoldenWant`.
_COMPUTE_WIDTHS = (1, 2, 3, 4, 7)


@dataclass(frozen=True)
class MigEngines:
    """How many engines of each kind a part of a GPU has for itself."""

    copy: int = 0
    decoder: int = 0
    encoder: int = 0
    jpeg: int = 0
    ofa: int = 0

    def __add__(self, other: MigEngines) -> MigEngines:
        return MigEngines(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def within(self, limit: MigEngines) -> bool:
        """Whether there are no more of any kind than in `limit`."""
        return all(getattr(self, each.name) <= getattr(limit, each.name) for each in fields(self))


@dataclass(frozen=True)
class MigProfile:
    """A kind of GPU instance.

    Attributes:
        name: NVIDIA's, e.g. `1g.10gb+me`.
        memory_mib, multiprocessors, engines: what one has.
        slices: compute slices.
        size: memory slices.
        starts: the memory slices that it may begin at.
        most: how many of them a GPU can have.
        number: the driver's number of it; None for one that no driver told.
    """

    name: str
    memory_mib: int
    multiprocessors: int
    engines: MigEngines
    slices: int
    size: int
    starts: tuple[int, ...]
    most: int
    number: int | None = None

    @property
    def placements(self) -> tuple[Placement, ...]:
        """Everywhere it may lie."""
        return tuple(Placement(self, start) for start in self.starts)


@dataclass(frozen=True)
class Placement:
    """A GPU instance of a profile at a place, the memory slice that it begins at."""

    profile: MigProfile
    start: int

    @property
    def end(self) -> int:
        """The memory slice after its last."""
        return self.start + self.profile.size

    def overlaps(self, other: Placement) -> bool:
        """Whether both need the same memory slice."""
        return self.start < other.end and other.start < self.end

    def __str__(self) -> str:
        return f"{self.profile.name}@{self.start}"


@dataclass(frozen=True)
class MigGeometry:
    """All that one GPU can be split into.

    Attributes:
        profiles: the largest first, which has everything.
    """

    profiles: tuple[MigProfile, ...]

    def find(self, name: str) -> MigProfile | None:
        """The profile of that name."""
        return next((each for each in self.profiles if each.name == name), None)

    @property
    def names(self) -> str:
        """What there is, for people, the smallest first."""
        return ", ".join(each.name for each in reversed(self.profiles))

    def obstacle(self, placed: Sequence[Placement], new: Placement) -> str:
        """Why `new` can't be had beside what is placed; empty when it can."""
        profile = new.profile
        if new.start not in profile.starts:
            return f"{profile.name} can only begin at slice {' or '.join(map(str, profile.starts))}"
        if in_the_way := [str(each) for each in placed if each.overlaps(new)]:
            return f"{' and '.join(in_the_way)} {'is' if len(in_the_way) == 1 else 'are'} in the way"
        if sum(each.profile.name == profile.name for each in placed) >= profile.most:
            return f"a GPU has no more than {profile.most} of {profile.name}"
        # One of each kind with the GPU's only optical flow engine is allowed, and both together aren't there.
        if not sum((each.profile.engines for each in placed), profile.engines).within(
            self.profiles[0].engines
        ):
            return f"what {profile.name} needs of the GPU's engines is with the others"
        return ""


def split_name(name: str) -> tuple[int | None, str]:
    """The compute slices that a name asks for, if not all, and the GPU instance's profile.

    `1c.3g.40gb` is 1 of `3g.40gb`.
    """
    prefix = _COMPUTE_PREFIX.match(name)
    return (int(prefix[1]), name[prefix.end() :]) if prefix else (None, name)


def compute_widths(profile: MigProfile) -> tuple[int, ...]:
    """How many compute slices a compute instance in such a GPU instance can have."""
    return tuple(width for width in _COMPUTE_WIDTHS if width <= profile.slices)


def compute_name(profile: MigProfile, width: int) -> str:
    """The name of a compute instance with so many compute slices."""
    return profile.name if width == profile.slices else f"{width}c.{profile.name}"
