"""How plans to split GPUs look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from gpuyard.cli.output.results import print_json
from gpuyard.devices.inventory import MigInstance
from gpuyard.devices.mig_layout import GpuPlan


def print_plans(
    plans: Sequence[GpuPlan],
    holders: Mapping[str, str],
    *,
    as_json: bool,
    simulated: bool,
    done: bool = False,
    err: bool = False,
) -> None:
    """What becomes of each GPU.

    Args:
        plans: of the GPUs that the layout names.
        holders: who has what, for people, by UUID.
        as_json: one document for machines.
        simulated: whether the GPUs are.
        done: whether it has been done.
        err: goes to standard error.
    """
    if as_json:
        print_json({
            "simulated": simulated,
            "applied": done,
            "possible": not any(plan.refusals for plan in plans),
            "gpus": [_json(plan, holders) for plan in plans],
        })  # fmt: skip
        return
    for plan in plans:
        click.echo("\n".join(_lines(plan, holders, simulated, done)), err=err)


def _lines(plan: GpuPlan, holders: Mapping[str, str], simulated: bool, done: bool) -> Iterator[str]:
    name = f"GPU {plan.gpu.index} ({plan.gpu.model or plan.gpu.product}{', simulated' if simulated else ''})"
    yield name if plan.changes or plan.refusals else f"{name} stays as it is"
    if plan.mode is not None:
        yield f"  MIG is switched {'on' if plan.mode else 'off'}"
    keep, destroy, create = ("kept", "destroyed", "created") if done else ("keep", "destroy", "create")
    for word, parts in ((keep, plan.keep), (destroy, plan.destroy)):
        for part in parts:
            holder = holders.get(part.uuid)
            yield f"  {word:10}{part.profile} at {part.start}{f', which {holder} has' if holder else ''}"
    for new in plan.create:
        yield f"  {create:10}{new.profile.name} at {new.start}"
    for why in plan.refusals:
        yield f"  impossible: {why}"


def _json(plan: GpuPlan, holders: Mapping[str, str]) -> dict[str, Any]:
    return {
        "gpu": plan.gpu.index,
        "uuid": plan.gpu.uuid,
        "model": plan.gpu.model,
        "mig_switched": plan.mode if plan.mode is None else "on" if plan.mode else "off",
        "keep": [_part(part, holders) for part in plan.keep],
        "destroy": [_part(part, holders) for part in plan.destroy],
        "create": [{"profile": new.profile.name, "start": new.start} for new in plan.create],
        "impossible": list(plan.refusals),
    }


def _part(part: MigInstance, holders: Mapping[str, str]) -> dict[str, Any]:
    return {
        "profile": part.profile,
        "start": part.start,
        "uuid": part.uuid,
        "held_by": holders.get(part.uuid),
    }
