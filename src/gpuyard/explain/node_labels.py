"""Labels that a request names and that no node has, and what the nodes have instead."""

from __future__ import annotations

from difflib import get_close_matches

from gpuyard.kube.selectors import Requirement
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import Snapshot

_MOST_VALUES = 5


def about_labels(request: PodRequest, snapshot: Snapshot) -> tuple[str, ...]:
    """For each label that is asked for and that no node has: what the nodes have instead."""
    terms = (requirement for term in request.affinity or () for requirement in term.labels)
    return tuple(
        _about_label(requirement, snapshot)
        for requirement in (*request.selector, *terms)
        if not any(requirement.matches(node.labels) for node in snapshot.nodes.values())
    )


def _about_label(requirement: Requirement, snapshot: Snapshot) -> str:
    values: dict[str, list[str]] = {}
    for node in snapshot.nodes.values():
        if requirement.key in node.labels:
            values.setdefault(node.labels[requirement.key], []).append(node.name)
    if values:
        shown = sorted(values.items())[:_MOST_VALUES]
        there = ", ".join(f"{value} (node {few(names)})" for value, names in shown)
        more = f" and {len(values) - len(shown)} more" if len(values) > len(shown) else ""
        return f"the label {requirement.key} is {there}{more}"
    keys = sorted({key for node in snapshot.nodes.values() for key in node.labels})
    near = get_close_matches(requirement.key, keys, n=1)
    return f"no node has a label {requirement.key}" + (f"; there is {near[0]}" if near else "")


def few(names: list[str]) -> str:
    """The first three, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
