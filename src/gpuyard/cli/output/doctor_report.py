"""How a report looks to people."""

from __future__ import annotations

import click

from gpuyard.doctor.check import Check, CheckState, Report

_GAP = "  "
_MOST_NODES = 5


def print_report(report: Report) -> None:
    """One line a check, its remedy below it, and at the end the first broken link."""
    width = max(len(check.name) for check in report.checks)
    for check in report.checks:
        for line in _lines(check, width):
            click.echo(line)
    if first := report.first_broken:
        click.echo(f"\nThe first broken link: {first.name}: {first.message}")
    elif any(check.outcome is CheckState.WARNING for check in report.checks):
        click.echo("\nNothing is broken; look at the warnings.")
    else:
        click.echo("\nNothing is broken.")


def _lines(check: Check, width: int) -> list[str]:
    lines = [_GAP.join((f"{check.outcome:<7}", f"{check.name:<{width}}", check.message))]
    indent = " " * (7 + width + 2 * len(_GAP))
    bad = [n for n in check.nodes if n.outcome in (CheckState.WARNING, CheckState.BROKEN)]
    # The first of them is in the message already.
    lines += [f"{indent}{node.node}: {node.message}" for node in bad[1:_MOST_NODES]]
    if len(bad) > _MOST_NODES:
        lines.append(f"{indent}… and {len(bad) - _MOST_NODES} more nodes: see -o json")
    lines += [f"{indent}→ {line}" for line in check.remedy.splitlines()]
    return lines
