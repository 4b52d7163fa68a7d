"""Simulated GPUs that are split: their instances, by the rules that real ones follow.

Numbers of instances and of device nodes are counted as the driver counts them. Source: the listings of
`nvidia-smi mig -lgi`, and /proc/driver/nvidia-caps/mig-minors.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gpuyard.devices.inventory import Device, DeviceNode, Mig, MigInstance
from gpuyard.gpus.mig_models import mig_geometry
from gpuyard.gpus.mig_profiles import (
    MigGeometry,
    Placement,
    compute_name,
    compute_widths,
    split_name,
)

_NAMESPACE = uuids.UUID("0b9b4f1a-6a0c-5e53-8c1b-7f6d7f3f6a11")
#: Of /dev/nvidia-caps: the first, those of a GPU, and those of a GPU instance.
_FIRST_CAP, _CAPS_OF_GPU, _CAPS_OF_GI = 3, 135, 9
#: Of the place of a part; no GPU has as many as a hundred slices.
_MAX_DIGITS = 2


@dataclass
class _MadeInstance:
    placement: Placement
    widths: list[int] = field(default_factory=list)


def split(gpu: Device, parts: Iterable[object]) -> tuple[Mig, tuple[str, ...]]:
    """The GPU's parts as they are named, `3g.40gb@4` or `1c.3g.40gb@4`; and why some of them can't be.

    Compute instances of one kind of GPU instance at one place are in the same one.
    """
    geometry = mig_geometry(gpu.model)
    if geometry is None:
        return Mig(enabled=True, pending=True), ("it can't be split",)
    made: list[_MadeInstance] = []
    mistakes = [f"{part!r} isn't there: {why}" for part in parts if (why := _put(geometry, made, part))]
    made.sort(key=lambda each: _gi_id(geometry, each.placement))
    instances = tuple(_instances(gpu, geometry, made))
    return Mig(enabled=True, pending=True, instances=instances), tuple(mistakes)


def _put(geometry: MigGeometry, made: list[_MadeInstance], part: object) -> str:
    name, _, start = part.partition("@") if isinstance(part, str) else ("", "", "")
    width, profile_name = split_name(name)
    profile = geometry.find(profile_name)
    if profile is None:
        return f"there is {geometry.names}, each written as {geometry.profiles[-1].name}@0"
    width = width or profile.slices
    if width not in compute_widths(profile):
        return f"no part of {profile.name} has {width} compute slices"
    if not (start.isascii() and start.isdigit() and len(start) <= _MAX_DIGITS):
        return f"write where it begins, as in {name}@{profile.starts[0]}"
    placement = Placement(profile, int(start))
    there = next((each for each in made if each.placement == placement), None)
    if there is not None and sum(there.widths) + width <= profile.slices:
        there.widths.append(width)
        return ""
    if why := geometry.obstacle([each.placement for each in made], placement):
        return why
    made.append(_MadeInstance(placement, [width]))
    return ""


def _gi_id(geometry: MigGeometry, placement: Placement) -> int:
    size = placement.profile.size
    return geometry.profiles[0].size // size - 1 + placement.start // size


def _instances(gpu: Device, geometry: MigGeometry, made: Sequence[_MadeInstance]) -> Iterable[MigInstance]:
    index = 0
    for each in made:
        profile, start = each.placement.profile, each.placement.start
        gi_id = _gi_id(geometry, each.placement)
        for ci_id, width in enumerate(each.widths):
            cap = _FIRST_CAP + _CAPS_OF_GPU * gpu.minor + _CAPS_OF_GI * gi_id
            yield MigInstance(
                index=index,
                uuid=f"MIG-{uuids.uuid5(_NAMESPACE, f'{gpu.uuid}/{each.placement}/{width}/{ci_id}')}",
                profile=compute_name(profile, width),
                gi_id=gi_id,
                ci_id=ci_id,
                start=start,
                size=profile.size,
                gi_slices=profile.slices,
                ci_slices=width,
                memory_mib=profile.memory_mib,
                multiprocessors=profile.multiprocessors * width // profile.slices,
                engines=profile.engines,
                nodes=tuple(
                    DeviceNode(f"/dev/nvidia-caps/nvidia-cap{number}", "/dev/null")
                    for number in (cap, cap + 1 + ci_id)
                ),
            )
            index += 1
