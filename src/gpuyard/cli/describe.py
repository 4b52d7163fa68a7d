"""What `show` says about a run, for people and for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from gpuyard.cli.output import age, print_fields, print_table
from gpuyard.kube.objects import Manifest, annotations_of
from gpuyard.kube.pods import container_statuses
from gpuyard.kube.timestamps import parse_time
from gpuyard.kube.wellknown import (
    ANNOTATION_COMMAND,
    ANNOTATION_DEVICES,
    ANNOTATION_ISOLATION,
    ANNOTATION_NOT_APPLIED,
    IMAGE_PROCESS,
)
from gpuyard.runs.run import Run, state_and_reason


def to_json(run: Run, events: Sequence[Manifest]) -> dict[str, Any]:
    """The keys of `ps -o json` and `command`, `image`, `resources`, `attempts` and `events` besides."""
    return {
        **run.state.to_json(),
        "command": annotations_of(run.job).get(ANNOTATION_COMMAND),
        "image": _image(run),
        "resources": _container(run.job["spec"]["template"]).get("resources") or {},
        "attempts": [_attempt(pod) for pod in run.pods],
        "events": [_event(event) for event in _in_order(events)],
    }


def describe(run: Run, events: Sequence[Manifest], models: Mapping[str, str]) -> None:
    """Prints it.

    Args:
        run: whose.
        events: of the run and its pods.
        models: of the GPUs, by node name, as far as known.
    """
    state, now = run.state, datetime.now(UTC)
    limits = _container(run.job["spec"]["template"]).get("resources", {}).get("limits", {})
    gpus = f"{state.gpus}{' (simulated)' if state.simulated and state.gpus else ''}"
    print_fields(
        [
            ("Name", state.name),
            ("State", state_and_reason(state)),
            ("Message", state.message),
            ("Exit code", "" if state.exit_code is None else str(state.exit_code)),
            ("Command", annotations_of(run.job).get(ANNOTATION_COMMAND, "")),
            ("Image", _image(run) or ""),
            ("Workdir", _container(run.job["spec"]["template"]).get("workingDir", "")),
            ("GPUs", gpus if state.gpus else ""),
            ("Limits", ", ".join(f"{name}={value}" for name, value in limits.items())),
            ("Priority", str(state.priority or "")),
            ("Nodes", ", ".join(state.nodes)),
            ("Submitted", _ago(state.submitted_at, now)),
            ("Started", _ago(state.started_at, now)),
            ("Finished", _ago(state.finished_at, now)),
        ]
    )
    for number, pod in enumerate(run.pods, 1):
        attempt = _attempt(pod)
        click.echo(f"\nAttempt {number}: pod {attempt['pod']}")
        print_fields(
            [
                ("  Phase", str(attempt["phase"] or "")),
                ("  Exit code", "" if attempt["exit_code"] is None else str(attempt["exit_code"])),
                ("  Devices", "\n".join(_device_texts(pod, models))),
                ("  Isolation", str(attempt["isolation"] or "")),
                ("  Not applied", ", ".join(attempt["not_applied"])),
            ]
        )
    if events:
        click.echo("\nEvents:")
        rows = [
            [
                age(_last_seen(event), now),
                event.get("type", ""),
                event.get("reason", ""),
                event.get("message", ""),
            ]
            for event in _in_order(events)
        ]
        print_table(["AGE", "TYPE", "REASON", "MESSAGE"], rows, drop=("TYPE",))


def _image(run: Run) -> str | None:
    """None of a process of a yard's host."""
    image = _container(run.job["spec"]["template"]).get("image")
    return None if image == IMAGE_PROCESS else image


def _attempt(pod: Manifest) -> dict[str, Any]:
    annotations = annotations_of(pod)
    status = pod.get("status", {})
    ended = [
        container["state"]["terminated"]
        for container in container_statuses(pod)
        if "terminated" in (container.get("state") or {})
    ]
    return {
        "pod": pod["metadata"]["name"],
        "phase": status.get("phase"),
        "node": pod["spec"].get("nodeName"),
        "exit_code": ended[0].get("exitCode") if ended else None,
        "devices": _split(annotations.get(ANNOTATION_DEVICES)),
        "isolation": annotations.get(ANNOTATION_ISOLATION),
        "not_applied": _split(annotations.get(ANNOTATION_NOT_APPLIED)),
    }


def _device_texts(pod: Manifest, models: Mapping[str, str]) -> list[str]:
    """`cuda:0 H100 GPU-…`: as the process counts its GPUs."""
    model = models.get(pod["spec"].get("nodeName") or "", "")
    devices = _split(annotations_of(pod).get(ANNOTATION_DEVICES))
    return [" ".join(filter(None, (f"cuda:{n}", model, device))) for n, device in enumerate(devices)]


def _event(event: Manifest) -> dict[str, Any]:
    return {
        "last_seen": event.get("lastTimestamp") or event.get("eventTime"),
        "type": event.get("type"),
        "reason": event.get("reason"),
        "message": event.get("message"),
        "count": event.get("count", 1),
        "object": f"{event['involvedObject'].get('kind', '')}/{event['involvedObject'].get('name', '')}",
    }


def _in_order(events: Sequence[Manifest]) -> list[Manifest]:
    """By time, and within one second in the order in which they were written."""

    def key(event: Manifest) -> tuple[str, int]:
        version = str(event["metadata"].get("resourceVersion", ""))
        moment = str(event.get("lastTimestamp") or event.get("eventTime") or "")
        return moment, int(version) if version.isdecimal() else 0

    return sorted(events, key=key)


def _last_seen(event: Manifest) -> datetime | None:
    text = event.get("lastTimestamp") or event.get("eventTime")
    return parse_time(text) if text else None


def _container(template: Mapping[str, Any]) -> Mapping[str, Any]:
    container: Mapping[str, Any] = template["spec"]["containers"][0]
    return container


def _split(text: str | None) -> list[str]:
    return [part for part in (text or "").split(",") if part]


def _ago(moment: datetime | None, now: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC ({age(moment, now)} ago)" if moment else ""
