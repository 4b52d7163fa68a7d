"""How a report looks to people."""

from __future__ import annotations

import click

from gpuyard.cli.output.results import print_wrapped
from gpuyard.doctor.check import Check, CheckState, Report

_GAP = "  "
_MOST_NODES = 5


def print_report(report: Report) -> None:
    """One line a check, its remedy below it, and at the end the first broken link."""
    width = max(len(check.name) for check in report.checks)
    for check in report.checks:
        for first, text, rest in _lines(check, width):
            print_wrapped(text, first=first, rest=rest)
    if broken := report.first_broken:
        click.echo()
        print_wrapped(f"The first broken link: {broken.name}: {broken.message}")
    elif any(check.outcome is CheckState.WARNING for check in report.checks):
        click.echo("\nNothing is broken; look at the warnings.")
    else:
        click.echo("\nNothing is broken.")


def _lines(check: Check, width: int) -> list[tuple[str, str, str]]:
    """Texts, each with what is before it, and before what of it has to be broken off."""
    indent = " " * (7 + width + 2 * len(_GAP))
    lines = [(_GAP.join((f"{check.outcome:<7}", f"{check.name:<{width}}", "")), check.message, indent)]
    bad = [n for n in check.nodes if n.outcome in (CheckState.WARNING, CheckState.BROKEN)]
    # The first of them is in the message already.
    lines += [(indent, f"{node.node}: {node.message}", f"{indent}  ") for node in bad[1:_MOST_NODES]]
    if len(bad) > _MOST_NODES:
        lines.append((indent, f"… and {len(bad) - _MOST_NODES} more nodes: see -o json", indent))
    lines += [(f"{indent}→ ", line, f"{indent}  ") for line in check.remedy.splitlines()]
    return lines
