"""A full disk, which no step is spared: what says so, and what would help."""

from __future__ import annotations

import re

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import By, Finding, Owner, Remedy, Step
from gpuyard.explain.run_objects import RunObjects
from gpuyard.explain.steps.image import waiting_containers
from gpuyard.kube.pods import PULL_REASONS, container_statuses

_NO_SPACE = re.compile(r"(?:(?P<path>/[^:]+): )?[Nn]o space left on device")
_LONGEST = 400


def find_disk(objects: RunObjects, *, told: bool) -> Finding | None:
    """What of a run hasn't started for want of space.

    Args:
        objects: what is known.
        told: only where the node says so of this very run. Else also where its disk is full, which may be
            why nothing happens.
    """
    said = _said(objects)
    if not said and (told or not objects.full_disk or _has_started(objects)):
        return None
    node = str((objects.pod or {}).get("spec", {}).get("nodeName") or "")
    step = Step.START if node else Step.NODES if objects.pod else Step.ADMISSION
    who = f"node {node}" if node else "the yard"
    match = _NO_SPACE.search(said)
    headline = objects.full_disk or f"{who} has no room on its disk"
    if not objects.full_disk and match and match["path"]:
        headline = f"the disk that holds {match['path']} is full"
    room = Remedy(
        "free some space there; it goes on by itself then", By.YOU if objects.is_yard else By.OPERATOR
    )
    clear = Remedy("remove runs that have ended, with their logs", command="gpuyard rm --ended")
    remedies = (clear, room) if objects.is_yard else (room,)
    evidence = (f"{who} says: {said[:_LONGEST]}",) if said else ()
    return Finding(step, Cause.NODE_DISK, headline, Owner("Node", node) if node else None, evidence, remedies)


def _said(objects: RunObjects) -> str:
    """What its node says of it; an image that finds no room is the image's."""
    for _, waiting in waiting_containers(objects.pod) if objects.pod else ():
        said = str(waiting.get("message") or "")
        if waiting.get("reason") not in PULL_REASONS and _NO_SPACE.search(said):
            return said
    return ""


def _has_started(objects: RunObjects) -> bool:
    statuses = container_statuses(objects.pod, init=True) if objects.pod else ()
    return any("waiting" not in (each.get("state") or {}) or each.get("lastState") for each in statuses)
