"""How GPUs shall be split: a layout as people write it, and the plan that leads there (pure).

    0: 3g.40gb 3g.40gb; 1-3: all 1g.10gb; 4: whole

`all` before the last profile stands for as many of it as there is room for. A plan leaves instances that are
in use where they are, and idle ones that the layout has, too, as long as everything fits; it places large
profiles first, and so that the largest hole stays whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from gpuyard import errors
from gpuyard.devices.inventory import Device, Inventory, Mig, MigInstance
from gpuyard.gpus.mig_profiles import MigGeometry, MigProfile, Placement, split_name

_EXAMPLE = "write it as in '0: 3g.40gb 3g.40gb; 1-3: all 1g.10gb; 4: whole'"
_ALL, _WHOLE = "all", "whole"
_INDEXES = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?", re.ASCII)
_MAX_REASONS = 3


@dataclass(frozen=True)
class LayoutEntry:
    """How some GPUs shall be split.

    Attributes:
        gpus: their indexes; None for all.
        profiles: one instance of each, none for a whole GPU without MIG.
        fill: and as many of this as there is room for; empty for none.
        places: where in the text each profile stands, and `fill`.
    """

    gpus: tuple[int, ...] | None
    profiles: tuple[str, ...]
    fill: str
    places: Mapping[str, int]

    @property
    def whole(self) -> bool:
        """Whether the GPUs shall not be split."""
        return not self.profiles and not self.fill


@dataclass(frozen=True)
class MigLayout:
    """What was written, and what it means."""

    text: str
    entries: tuple[LayoutEntry, ...]

    def error(self, message: str, remedy: str, at: int) -> errors.UsageError:
        """Something is wrong at a place of the text."""
        return _error(self.text, message, remedy, at)


@dataclass(frozen=True)
class GpuPlan:
    """What becomes of one GPU.

    Attributes:
        gpu: as it is now.
        keep, destroy: its instances now.
        create: new ones.
        mode: MIG has to be switched on, or off; None when it stays as it is.
        refusals: what can't be had, and why.
    """

    gpu: Device
    keep: tuple[MigInstance, ...] = ()
    destroy: tuple[MigInstance, ...] = ()
    create: tuple[Placement, ...] = ()
    mode: bool | None = None
    refusals: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.destroy or self.create or self.mode is not None)


def parse_layout(text: str) -> MigLayout:
    """Reads what GPUs shall be split into.

    Raises:
        UsageError: it can't be read; says where.
    """
    entries = []
    for at, part in _pieces(text, ";"):
        gpus, colon, profiles = part.partition(":")
        if not part.strip():
            continue
        if not colon:
            raise _error(text, "there is no ':' after the GPUs", _EXAMPLE, at)
        entries.append(_entry(text, at, gpus, at + len(gpus) + 1, profiles))
    if not entries:
        raise _error(text, "it says nothing", _EXAMPLE, 0)
    return MigLayout(text, tuple(entries))


def _pieces(text: str, separator: str) -> Iterator[tuple[int, str]]:
    at = 0
    for piece in text.split(separator):
        yield at, piece
        at += len(piece) + 1


def _error(text: str, message: str, remedy: str, at: int) -> errors.UsageError:
    there = text[at:].strip()
    begin = at + len(text[at:]) - len(text[at:].lstrip())
    where = f"at character {begin + 1}, {there[:20]!r}" if there else "at its end"
    return errors.UsageError(f"the layout is wrong {where}: {message}", remedy=remedy)


def _entry(text: str, at: int, gpus: str, profiles_at: int, profiles: str) -> LayoutEntry:
    words = [(profiles_at + each.start(), each[0]) for each in re.finditer(r"[^\s,]+", profiles)]
    if not words:
        raise _error(text, "no profile is named", _EXAMPLE, profiles_at)
    places = {word: place for place, word in reversed(words)}
    names = [word for _, word in words]
    if _WHOLE in names:
        if len(names) > 1:
            raise _error(text, f"{_WHOLE!r} stands alone", _EXAMPLE, places[_WHOLE])
        return LayoutEntry(_indexes(text, at, gpus), (), "", places)
    fill = ""
    if _ALL in names:
        if names.index(_ALL) != len(names) - 2:
            raise _error(text, f"{_ALL!r} stands before the last profile", _EXAMPLE, places[_ALL])
        fill = names.pop()
        names.pop()
    return LayoutEntry(_indexes(text, at, gpus), tuple(names), fill, places)


def _indexes(text: str, at: int, gpus: str) -> tuple[int, ...] | None:
    if gpus.strip() == _ALL:
        return None
    found: list[int] = []
    for offset, piece in _pieces(gpus, ","):
        numbers = _INDEXES.fullmatch(piece.strip())
        first, last = (int(numbers[1]), int(numbers[2] or numbers[1])) if numbers else (1, 0)
        if first > last:
            raise _error(text, "it names no GPUs", "write an index, 0,2, 1-3 or all", at + offset)
        found += range(first, last + 1)
    return tuple(found)


def plan_layout(
    layout: MigLayout,
    inventory: Inventory,
    in_use: Mapping[str, str],
    geometries: Mapping[str, MigGeometry],
) -> tuple[GpuPlan, ...]:
    """What has to be done for the layout, for each GPU that it names.

    Args:
        layout: what is wanted.
        inventory: what there is.
        in_use: who has a GPU or an instance now, for people, by its UUID.
        geometries: what each GPU can be split into, by its UUID.

    Raises:
        UsageError: the layout names a GPU or a profile that isn't there.
    """
    by_index = {gpu.index: gpu for gpu in inventory.devices}
    plans: dict[int, GpuPlan] = {}
    for entry in layout.entries:
        for index in sorted(by_index) if entry.gpus is None else entry.gpus:
            at = min(entry.places.values())
            if index not in by_index:
                there = f"there are {', '.join(map(str, sorted(by_index)))}" if by_index else "there is none"
                raise layout.error(f"there is no GPU {index}", there, at)
            if index in plans:
                raise layout.error(f"GPU {index} is named before, too", "name each GPU once", at)
            gpu = by_index[index]
            plan = _plan_gpu(layout, entry, gpu, in_use, geometries)
            if why := _fixed(plan, in_use):
                plan = GpuPlan(gpu, keep=gpu.mig.instances if gpu.mig else (), refusals=(why,))
            plans[index] = plan
    return tuple(plans[index] for index in sorted(plans))


def _fixed(plan: GpuPlan, in_use: Mapping[str, str]) -> str:
    """Why nothing of a GPU may be changed, if so."""
    gpu, holder = plan.gpu, in_use.get(plan.gpu.uuid)
    if holder and plan.changes:
        # Split or not: who has a split GPU has all of its parts.
        return f"it stays as it is: {holder} has the whole GPU"
    if gpu.mig and any(part.start < 0 or part.size < 1 for part in gpu.mig.instances):
        return "where its parts lie is told to root only"
    return ""


def _plan_gpu(
    layout: MigLayout,
    entry: LayoutEntry,
    gpu: Device,
    in_use: Mapping[str, str],
    geometries: Mapping[str, MigGeometry],
) -> GpuPlan:
    mig = gpu.mig or Mig()
    if entry.whole:
        return _plan_whole(gpu, mig, in_use)
    geometry = geometries.get(gpu.uuid)
    if gpu.mig is None or geometry is None:
        why = "can't be split" if gpu.mig is None else "can be split, and into what isn't known"
        return GpuPlan(gpu, keep=mig.instances, refusals=(f"{gpu.product or 'it'} {why}",))
    for name in (*entry.profiles, *filter(None, [entry.fill])):
        _check_profile(layout, entry, gpu, geometry, name)
    return _plan_parts(entry, gpu, mig, in_use, geometry)


def _check_profile(
    layout: MigLayout, entry: LayoutEntry, gpu: Device, geometry: MigGeometry, name: str
) -> None:
    if geometry.find(name):
        return
    width, of = split_name(name)
    if width and geometry.find(of):
        message = f"{name} has a part of {of}'s compute slices, and what has isn't given to pods"
        raise layout.error(message, f"write {of}", entry.places[name])
    raise layout.error(
        f"GPU {gpu.index} ({gpu.product}) has no profile {name}",
        f"it can be split into {geometry.names}",
        entry.places[name],
    )


def _plan_whole(gpu: Device, mig: Mig, in_use: Mapping[str, str]) -> GpuPlan:
    held = [each for each in mig.instances if each.uuid in in_use]
    if held:
        return GpuPlan(
            gpu, keep=mig.instances, refusals=tuple(_stays(each, in_use[each.uuid]) for each in held)
        )
    return GpuPlan(gpu, destroy=mig.instances, mode=False if mig.enabled or mig.pending else None)


def _stays(instance: MigInstance, holder: str) -> str:
    return f"{instance.profile}@{instance.start} stays: {holder} has it, and the layout has no place for it"


@dataclass(frozen=True)
class _PresentInstance:
    """One that is there now, with all of its compute instances."""

    placement: Placement
    instances: tuple[MigInstance, ...]

    @property
    def undivided(self) -> bool:
        """Whether it is one device."""
        return len(self.instances) == 1 and self.instances[0].ci_slices == self.instances[0].gi_slices

    def holders(self, in_use: Mapping[str, str]) -> str:
        found = dict.fromkeys(in_use[each.uuid] for each in self.instances if each.uuid in in_use)
        return " and ".join(found)


def _gpu_instances(geometry: MigGeometry, mig: Mig) -> list[_PresentInstance]:
    by_gi: dict[int, list[MigInstance]] = {}
    for instance in mig.instances:
        by_gi.setdefault(instance.gi_id, []).append(instance)
    return [_PresentInstance(_placement(geometry, each[0]), tuple(each)) for each in by_gi.values()]


def _placement(geometry: MigGeometry, instance: MigInstance) -> Placement:
    name = split_name(instance.profile)[1]
    profile = geometry.find(name) or MigProfile(
        name,
        instance.memory_mib,
        instance.multiprocessors,
        instance.engines,
        instance.gi_slices,
        instance.size,
        (instance.start,),
        1,
    )
    return Placement(profile, instance.start)


def _plan_parts(
    entry: LayoutEntry, gpu: Device, mig: Mig, in_use: Mapping[str, str], geometry: MigGeometry
) -> GpuPlan:
    there = _gpu_instances(geometry, mig)
    holders = {each.placement: each.holders(in_use) for each in there}
    held = [each for each in there if holders[each.placement]]
    wanted = Counter(entry.profiles)
    refusals = []
    for each in held:
        name = each.placement.profile.name
        if each.undivided and (wanted[name] > 0 or name == entry.fill):
            wanted[name] -= wanted[name] > 0
        else:
            refusals += [_stays(one, in_use[one.uuid]) for one in each.instances if one.uuid in in_use]
    fixed = tuple(each.placement for each in held)
    idle = frozenset(each.placement for each in there if each.undivided) - set(fixed)
    placed, missing = _place(geometry, fixed, idle, tuple(sorted(wanted.elements())), entry.fill)
    everything = (*fixed, *placed)
    refusals += [
        f"no room for {'another ' if _has(everything, name) else ''}{name}: "
        f"{_why(geometry, everything, name, holders)}"
        for name in missing
    ]
    keep = [each for each in there if each.placement in everything and (each.undivided or each in held)]
    kept = {each.placement for each in keep}
    return GpuPlan(
        gpu,
        keep=tuple(instance for each in keep for instance in each.instances),
        destroy=tuple(instance for each in there if each not in keep for instance in each.instances),
        create=tuple(each for each in placed if each not in kept),
        mode=None if mig.enabled else True,
        refusals=tuple(refusals),
    )


def _has(placed: Sequence[Placement], name: str) -> bool:
    return any(each.profile.name == name for each in placed)


def _why(
    geometry: MigGeometry, placed: Sequence[Placement], name: str, holders: Mapping[Placement, str]
) -> str:
    profile = geometry.find(name)
    assert profile is not None
    reasons = dict.fromkeys(geometry.obstacle(placed, each) for each in profile.placements)
    found = [f"{each} belongs to {holder}" for each, holder in holders.items() if holder]
    return "; ".join([*list(reasons)[:_MAX_REASONS], *found])


@lru_cache(maxsize=64)
def _place(
    geometry: MigGeometry,
    fixed: tuple[Placement, ...],
    idle: frozenset[Placement],
    wanted: tuple[str, ...],
    fill: str,
) -> tuple[tuple[Placement, ...], tuple[str, ...]]:
    """Where what is wanted goes beside what is fixed; and what there is no room for."""
    order = {profile.name: place for place, profile in enumerate(geometry.profiles)}

    def ways(names: Sequence[str]) -> Iterator[tuple[Placement, ...]]:
        profiles = [geometry.profiles[place] for place in sorted(order[name] for name in names)]
        return _ways(geometry, fixed, profiles)

    def there_is_room(names: Sequence[str]) -> bool:
        return any(True for _ in ways(names))

    names: list[str] = []
    missing: list[str] = []
    for name in sorted(wanted, key=order.__getitem__):
        (names if there_is_room([*names, name]) else missing).append(name)
    while fill and there_is_room([*names, fill]):
        names.append(fill)
    if fill and fill not in names and not _has(fixed, fill):
        missing.append(fill)
    best = max(ways(names), key=lambda placed: _worth(geometry, fixed, idle, placed))
    return best, tuple(missing)


def _worth(
    geometry: MigGeometry,
    fixed: tuple[Placement, ...],
    idle: frozenset[Placement],
    placed: tuple[Placement, ...],
) -> tuple[int, tuple[int, ...]]:
    """How many idle instances stay; then in how many places the largest profile still fits, the next, …"""
    everything = (*fixed, *placed)
    room = (
        sum(not geometry.obstacle(everything, each) for each in profile.placements)
        for profile in geometry.profiles
    )
    return len(idle.intersection(placed)), tuple(room)


def _ways(
    geometry: MigGeometry, placed: tuple[Placement, ...], profiles: Sequence[MigProfile], start: int = -1
) -> Iterator[tuple[Placement, ...]]:
    """Every way to place these; equal ones don't change places: `start` is that of an equal one before."""
    if not profiles:
        yield ()
        return
    first, *others = profiles
    for placement in first.placements:
        if placement.start > start and not geometry.obstacle(placed, placement):
            same = bool(others) and others[0] is first
            for rest in _ways(geometry, (*placed, placement), others, placement.start if same else -1):
                yield (placement, *rest)
