"""What `show` says about a run, for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import click

from gpuyard.cli.output.diagnoses import print_diagnoses
from gpuyard.cli.output.results import age, print_fields, print_table
from gpuyard.kube.objects import Manifest
from gpuyard.kube.timestamps import parse_time
from gpuyard.runs.description import Attempt, Description
from gpuyard.runs.run import state_and_reason


def print_description(description: Description) -> None:
    """Prints it: the run, its attempts, events and what its output is known to mean."""
    now = datetime.now(UTC)
    print_fields(_fields(description, now))
    for number, attempt in enumerate(description.attempts, 1):
        click.echo(f"\nAttempt {number}: pod {attempt.pod}")
        print_fields(
            [
                ("  Phase", attempt.phase or ""),
                ("  Ended", f"{attempt.reason}: {attempt.message}" if attempt.reason else ""),
                ("  Exit code", "" if attempt.exit_code is None else str(attempt.exit_code)),
                ("  Devices", "\n".join(device_texts(attempt, description.models or {}))),
                ("  Isolation", attempt.isolation or ""),
                ("  Not applied", ", ".join(attempt.not_applied)),
            ]
        )
    if description.events:
        click.echo("\nEvents:")
        rows = [
            [
                age(_last_seen(event), now),
                event.get("type", ""),
                event.get("reason", ""),
                event.get("message", ""),
            ]
            for event in description.events
        ]
        print_table(["AGE", "TYPE", "REASON", "MESSAGE"], rows, drop=("TYPE",))
    if description.diagnoses:
        click.echo("\nDiagnosis:")
        print_diagnoses(description.diagnoses)


def _fields(description: Description, now: datetime) -> list[tuple[str, str]]:
    state, container = description.run.state, description.container
    limits = container.get("resources", {}).get("limits", {})
    gpus = f"{state.gpus}{' (simulated)' if state.simulated and state.gpus else ''}"
    return [
        ("Name", state.name),
        ("State", state_and_reason(state)),
        ("Message", state.message),
        ("Exit code", "" if state.exit_code is None else str(state.exit_code)),
        ("Command", description.command or ""),
        ("Python", description.python or ""),
        ("Image", description.image or ""),
        ("Workdir", container.get("workingDir", "")),
        ("GPUs", gpus if state.gpus else ""),
        ("Limits", ", ".join(f"{name}={value}" for name, value in limits.items())),
        ("Priority", str(state.priority or "")),
        ("Nodes", ", ".join(state.nodes)),
        ("Submitted", _ago(state.submitted_at, now)),
        ("Started", _ago(state.started_at, now)),
        ("Finished", _ago(state.finished_at, now)),
    ]


def device_texts(attempt: Attempt, models: Mapping[str, str]) -> list[str]:
    """`cuda:0 H100 GPU-…`: as the process counts its GPUs."""
    model = models.get(attempt.node or "", "")
    return [" ".join(filter(None, (f"cuda:{n}", model, device))) for n, device in enumerate(attempt.devices)]


def _last_seen(event: Manifest) -> datetime | None:
    text = event.get("lastTimestamp") or event.get("eventTime")
    return parse_time(text) if text else None


def _ago(moment: datetime | None, now: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC ({age(moment, now)} ago)" if moment else ""
