"""A service on a terminal: what its replicas print, how it is, and the table of services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import click

from gpuyard.cli.follow import Screen
from gpuyard.cli.output.results import age, print_fields, print_table
from gpuyard.client.log_place import LogOptions
from gpuyard.gpus.resources import gpus_text
from gpuyard.kube.objects import annotations_of
from gpuyard.kube.wellknown import ANNOTATION_COMMAND
from gpuyard.runs.services.service import Service
from gpuyard.runs.services.service_description import ServiceDescription
from gpuyard.runs.services.service_logs import follow_service, read_service_logs
from gpuyard.runs.services.traffic import Traffic
from gpuyard.runs.target import Target
from gpuyard.workloads.serving.service_state import ServiceState

_COLUMNS = ("SERVICE", "STATE", "READY", "GPUS", "AGE", "REQ/S", "P50", "P99", "ADDRESS")


def print_services(
    services: Sequence[Service],
    traffic: Mapping[tuple[str, str], Traffic],
    now: datetime,
    *,
    with_namespace: bool,
) -> None:
    """One line each; what nobody measures is left empty."""
    rows = []
    for service in services:
        state = service.state
        measured = traffic.get((service.namespace, service.name))
        gpus = gpus_text(state.gpu_resources, short=True) + (" (simulated)" if state.simulated else "")
        per_second = "" if measured is None else f"{measured.requests_per_second:.1f}"
        times = [time_text(one) for one in (measured.p50_s, measured.p99_s)] if measured else ["", ""]
        rows.append(
            [
                *([service.namespace] if with_namespace else []),
                *(state.name, str(state.phase), state.replicas_text, gpus, age(state.submitted_at, now)),
                *(per_second, *times, state.address),
            ]
        )
    header = [*(["NAMESPACE"] if with_namespace else []), *_COLUMNS]
    print_table(header, rows, drop=("P50", "AGE", "P99", "REQ/S"))


def time_text(seconds: float | None) -> str:
    """`12 ms`, `1.3 s`; empty where it isn't known."""
    if seconds is None:
        return ""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


async def print_replicas(target: Target, service: Service, options: LogOptions) -> None:
    """What the replicas have printed so far."""
    screen, has_begun = Screen(target), False
    async with aclosing(read_service_logs(target, service, options)) as events:
        async for event in events:
            has_begun = True
            screen.show(event)
    screen.end()
    if not has_begun:
        click.echo(f"{service_text(service.state)}. No output yet; -f waits for it.", err=True)


async def follow_replicas(target: Target, name: str, options: LogOptions) -> int:
    """What the replicas print, until the service is stopped; 0 then."""
    screen = Screen(target)
    try:
        async with aclosing(follow_service(target, name, options)) as events:
            async for event in events:
                if isinstance(event, Service):
                    screen.end()
                    click.echo(service_text(event.state), err=True)
                else:
                    screen.show(event)
    finally:
        screen.line.clear()
    return 0


def service_text(state: ServiceState) -> str:
    """The state in one line."""
    text = f"{state.name}: {state.phase}, {state.replicas_text} replicas ready"
    return f"{text}: {state.message}" if state.message else text


def print_service(description: ServiceDescription) -> None:
    """What `show` says about a service, for people."""
    service, state, now = description.service, description.service.state, datetime.now(UTC)
    traffic, gpus = description.traffic, gpus_text(state.gpu_resources, short=True)
    print_fields(
        [
            ("Name", state.name),
            ("State", str(state.phase)),
            ("Message", state.message),
            (
                "Address",
                state.address + (f"\nnobody listens there: {description.deaf}" if description.deaf else ""),
            ),
            ("Replicas", f"{state.replicas_text} ready, {state.updated} up to date"),
            ("Scaling", "\n".join(description.scaling)),
            ("Traffic", _traffic_text(traffic) if traffic else ""),
            ("Command", annotations_of(service.deployment).get(ANNOTATION_COMMAND, "")),
            ("Image", description.image or ""),
            ("GPUs", f"{gpus} (simulated)" if state.simulated else gpus),
            ("Priority", state.priority or ""),
            ("Nodes", ", ".join(state.nodes)),
            ("Revision", description.revision),
            ("Submitted", f"{age(state.submitted_at, now)} ago" if state.submitted_at else ""),
        ]
    )
    if description.replicas:
        click.echo("\nReplicas:")
        rows = [
            [one.pod, one.state, "yes" if one.ready else "no", str(one.restarts), one.node, one.address]
            for one in description.replicas
        ]
        print_table(["POD", "STATE", "READY", "RESTARTS", "NODE", "LISTENS"], rows, drop=("NODE", "LISTENS"))


def _traffic_text(traffic: Traffic) -> str:
    held = f", {traffic.held} of them waiting for a replica" if traffic.held else ""
    times = ", ".join(
        f"{word} {time_text(one)}"
        for word, one in (("p50", traffic.p50_s), ("p99", traffic.p99_s))
        if one is not None
    )
    text = f"{traffic.requests_per_second:.1f} requests/s, {traffic.in_flight} in flight{held}"
    return f"{text}; {times}" if times else text
