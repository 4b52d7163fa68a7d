"""Verdicts over an image as lines of text: a table of the nodes, and what to do instead."""

from __future__ import annotations

from collections.abc import Sequence

from gpuyard.compatibility.fleet import FleetReport
from gpuyard.compatibility.verdict import Rule
from gpuyard.kube.wellknown import ENV_ALLOW_CPU


def table(report: FleetReport) -> list[str]:
    """One line a node: its GPU and driver, or without GPUs its CPU, and the verdict with its first reason."""
    gpus = any(verdict.offer.product or verdict.offer.driver for verdict in report.verdicts)
    rows: list[Sequence[str]] = [("NODE", "GPU", "DRIVER", "VERDICT") if gpus else ("NODE", "CPU", "VERDICT")]
    for verdict in report.verdicts:
        offer, reason = verdict.offer, verdict.decisive
        driver = str(offer.driver or "") or (f"CUDA {offer.cuda}" if offer.cuda else "")
        text = f"{verdict.outcome}: {reason.message}" if reason else str(verdict.outcome)
        about = (offer.product, driver) if gpus else (offer.machine,)
        rows.append((offer.name, *about, text))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = ("   ".join(map(str.ljust, row, widths)) for row in rows)
    return [f"  {line.rstrip()}" for line in cells]


def suggestion_lines(report: FleetReport) -> list[str]:
    """What to do instead; the reason's own remedy where no image is known that would run."""
    reasons = [v.decisive for v in report.verdicts if v.fails and v.decisive]
    lines = [report.suggestion.how] if report.suggestion else [r.remedy for r in reasons if r.remedy]
    if any(reason.rule is Rule.CPU_TORCH for reason in reasons):
        lines.append(f"{ENV_ALLOW_CPU}=1 in env lets it go on without GPUs")
    return list(dict.fromkeys(lines))
