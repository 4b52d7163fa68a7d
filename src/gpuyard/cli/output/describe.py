"""What `show` says about a run, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import click

from gpuyard.cli.output.diagnoses import print_diagnoses
from gpuyard.cli.output.results import age, duration, print_fields, print_table
from gpuyard.gpus.resources import GPU_RESOURCE, gpus_text
from gpuyard.gpus.use import GpuUse
from gpuyard.kube.objects import JOBS, Manifest
from gpuyard.kube.timestamps import parse_time
from gpuyard.runs.description import Attempt, Description
from gpuyard.runs.object_events import last_seen, object_text
from gpuyard.runs.run import state_and_reason
from gpuyard.workloads.run_state import RunState


def print_description(description: Description) -> None:
    """Prints it: the run, its attempts, events and what its output is known to mean."""
    now = datetime.now(UTC)
    print_fields(_fields(description, now))
    counts: Counter[int | None] = Counter()
    word = "Rank" if description.run.state.tasks is None else "Task"
    for attempt in description.attempts:
        counts[attempt.rank] += 1
        number = f"ttempt {counts[attempt.rank]}: pod {attempt.pod}"
        is_one = attempt.rank is None
        click.echo(f"\nA{number}" if is_one else f"\n{word} {attempt.rank}, a{number}")
        print_fields(
            [
                ("  Values", _values(attempt)),
                ("  Node", "" if is_one else attempt.node or ""),
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
        _print_events(description, now)
    if description.diagnoses:
        click.echo("\nDiagnosis:")
        print_diagnoses(description.diagnoses)


def _print_events(description: Description, now: datetime) -> None:
    """Which object an event is about, where not all are about the same; none is the run's own Job."""
    job = f"{JOBS.kind}/{description.run.job['metadata']['name']}"
    texts = map(object_text, description.events)
    objects = ["" if text == job else text for text in texts]
    shown = len(set(objects)) > 1
    rows = [
        [
            age(_last_seen(event), now),
            event.get("type", ""),
            event.get("reason", ""),
            *([about] if shown else []),
            event.get("message", ""),
        ]
        for event, about in zip(description.events, objects, strict=True)
    ]
    header = ["AGE", "TYPE", "REASON", *(["OBJECT"] if shown else []), "MESSAGE"]
    print_table(header, rows, drop=("TYPE", *(["OBJECT"] if shown else [])))


def _values(attempt: Attempt) -> str:
    if attempt.values is None:
        return ""
    from gpuyard.workloads.sweeps.sweep import values_text

    return values_text(attempt.values)


def _fields(description: Description, now: datetime) -> list[tuple[str, str]]:
    state, container = description.run.state, description.container
    limits = container.get("resources", {}).get("limits", {})
    gpus = gpus_text(state.gpu_resources, short=True)
    return [
        ("Name", state.name),
        ("State", state_and_reason(state)),
        ("Message", state.message),
        ("Exit code", "" if state.exit_code is None else str(state.exit_code)),
        ("Command", description.command or ""),
        ("Python", description.python or ""),
        ("Image", description.image or ""),
        ("Workdir", container.get("workingDir", "")),
        ("GPUs", f"{gpus} (simulated)" if state.simulated else gpus),
        ("GPU use", use_text(description.use, state) if description.use else ""),
        ("Limits", ", ".join(f"{name}={value}" for name, value in limits.items())),
        ("Priority", str(state.priority or "")),
        ("Nodes", ", ".join(state.nodes)),
        ("Submitted", _ago(state.submitted_at, now)),
        ("Started", _ago(state.started_at, now)),
        ("Finished", _ago(state.finished_at, now)),
    ]


def use_text(use: GpuUse, state: RunState) -> str:
    """`held 8 GPUs for 3h, 41% busy (peak 99%), memory 58.1 GiB each (peak 71.0 GiB), 5.2 kWh`."""
    # The run's own words for what it has, where one kind is all that it has.
    kind = next(iter(state.gpu_resources), GPU_RESOURCE) if len(state.gpu_resources) == 1 else GPU_RESOURCE
    held = f"held {gpus_text({kind: use.gpus})} for {duration(timedelta(seconds=use.held_s))}"
    busy = "" if use.mean_percent is None else f"{use.mean_percent:.0f}% busy (peak {use.peak_percent:.0f}%)"
    memory = ""
    if use.mean_memory_mib is not None:
        each = " each" if use.gpus > 1 else ""
        memory = (
            f"memory {use.mean_memory_mib / 1024:.1f} GiB{each} (peak {use.peak_memory_mib / 1024:.1f} GiB)"
        )
    energy = "" if use.energy_kwh is None else f"{_figures(use.energy_kwh)} kWh"
    text = ", ".join(filter(None, (held, busy, memory, energy)))
    return text + (" (simulated)" if state.simulated else "")


def _figures(kwh: float) -> str:
    """`5.2`; the energy of short runs isn't said to be none."""
    return f"{kwh:.1f}" if kwh >= 0.95 else f"{kwh:.2g}" if kwh >= 0.001 else "less than 0.001"


def device_texts(attempt: Attempt, models: Mapping[str, str]) -> list[str]:
    """`cuda:0 H100 GPU-…`: as the process counts its GPUs."""
    model = models.get(attempt.node or "", "")
    return [" ".join(filter(None, (f"cuda:{n}", model, device))) for n, device in enumerate(attempt.devices)]


def _last_seen(event: Manifest) -> datetime | None:
    return parse_time(text) if (text := last_seen(event)) else None


def _ago(moment: datetime | None, now: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC ({age(moment, now)} ago)" if moment else ""
