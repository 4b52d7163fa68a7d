"""Recorded observations, and the page that is made of them.

`recorded/kubernetes.json` has what the real kube-apiserver does in every case, `kubernetes-1.35.json` what
that older one does otherwise, and `yard.json` what the yard does in the cases of `differences`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.contract.differences import DIFFERENT, UNSERVED
from tests.contract.registry import Case, load_cases

_RECORDED = Path(__file__).with_name("recorded")
KUBERNETES = _RECORDED / "kubernetes.json"
#: The version that it is of.
NEWEST = "1.37"
YARD = _RECORDED / "yard.json"
PAGE = Path(__file__).parents[2] / "docs/reference/conformance.md"

_HEAD = """\
# Conformance

<!-- Written by `make conformance` from tests/contract. -->

The same {count} cases of API behaviour ran against the yard and against a real Kubernetes {newest} (etcd,
kube-apiserver, controllers, scheduler and kubelet). In {equal} the yard does the same, in {different} it
differs, {unserved} it doesn't serve. A case compares whole answers: codes, reasons, messages, field paths,
and what is stored.

`make test` holds the yard to this page, `make test-cluster` the cluster. What the yard serves at all says
[The yard's API](yard-api.md).
"""
_VERDICTS = ("equal", "different", "unserved")


def load(path: Path) -> dict[str, Any]:
    """Observations by case; none when nothing was recorded."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def of_kubernetes(minor: str) -> Path:
    """What a version does; of an older one, where it differs from the newest."""
    return KUBERNETES if minor == NEWEST else _RECORDED / f"kubernetes-{minor}.json"


def save(path: Path, observations: Mapping[str, Any]) -> None:
    """Writes observations, one case a line, in the order of the cases."""
    lines = [
        f"{json.dumps(name)}: {json.dumps(observations[name], ensure_ascii=False)}"
        for name in load_cases()
        if name in observations
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def expected_of_yard() -> dict[str, Any]:
    """What the yard has to do: what Kubernetes does, but for the differences."""
    return {**load(KUBERNETES), **load(YARD)}


def verdict(case: Case) -> str:
    """equal, different or unserved."""
    return "unserved" if case.id in UNSERVED else "different" if case.id in DIFFERENT else "equal"


def page() -> str:
    """The page of the documentation."""
    areas: dict[str, list[Case]] = {}
    for case in load_cases().values():
        areas.setdefault(case.area, []).append(case)
    counts = Counter(verdict(case) for cases in areas.values() for case in cases)
    lines = [_HEAD.format(newest=NEWEST, count=counts.total(), **{name: counts[name] for name in _VERDICTS})]
    lines += ["| area | equal | different | unserved |", "| --- | --- | --- | --- |"]
    for area, cases in areas.items():
        found = Counter(map(verdict, cases))
        lines.append(f"| [{area}](#{area}) | " + " | ".join(str(found[name]) for name in _VERDICTS) + " |")
    lines += _older()
    for area, cases in areas.items():
        lines += ["", f"## {area.capitalize()}", "", "| behaviour | yard |", "| --- | --- |"]
        lines += [f"| {_cell(case.title)} | {_cell(_result(case))} |" for case in cases]
    return "\n".join(lines) + "\n"


def _older() -> list[str]:
    """What older versions do otherwise."""
    lines = [
        "",
        "## Older Kubernetes",
        "",
        f"These cases go otherwise than on {NEWEST}, which the yard follows.",
        "",
    ]
    lines += ["| behaviour | on |", "| --- | --- |"]
    older: dict[str, list[str]] = {}
    for path in sorted(_RECORDED.glob("kubernetes-*.json")):
        for name in load(path):
            older.setdefault(name, []).append(path.stem.removeprefix("kubernetes-"))
    cases = load_cases()
    return lines + [f"| {_cell(cases[name].title)} | {', '.join(minors)} |" for name, minors in older.items()]


def _result(case: Case) -> str:
    reason = UNSERVED.get(case.id) or DIFFERENT.get(case.id)
    return f"{verdict(case)}: {reason}" if reason else "equal"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
