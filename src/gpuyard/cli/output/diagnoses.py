"""What a failed run's own output says went wrong, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gpuyard.explain.output.diagnosis import Diagnosis


def print_diagnoses(found: Sequence[Diagnosis]) -> None:
    """The line, its cause and its remedy, of each."""
    for diagnosis in found:
        click.echo(f"  it says: {diagnosis.line[:200]}")
        click.echo(f"    cause:  {diagnosis.cause}")
        click.echo(f"    remedy: {diagnosis.remedy}")


def first_cause(found: Sequence[Diagnosis]) -> str:
    """One line for the end of a run that was followed; empty where nothing is known."""
    return f"  {found[0].cause}: {found[0].remedy}" if found else ""
