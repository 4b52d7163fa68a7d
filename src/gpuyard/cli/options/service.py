"""Options of the commands that make a service and change it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gpuyard.cli.options.spec import spec_option

if TYPE_CHECKING:
    from gpuyard.workloads.spec.overrides import Flag
    from gpuyard.workloads.spec.text_tree import Path as KeyPath

Function = TypeVar("Function", bound=Callable[..., Any])

_TARGET = ("service", "target")
_OPTIONS = (
    spec_option(
        "--port", key="service.port", metavar="PORT", help="Where the program listens, and clients ask."
    ),
    spec_option(
        "--replicas",
        key="service.replicas",
        metavar="N|MIN..MAX",
        help="How many; 1..8 for as many as the load needs, by a --target-… (default: 1).",
    ),
    spec_option(
        "--readiness",
        key="service.readiness",
        metavar="PATH|tcp",
        help="A replica gets requests while this answers (default: tcp, a port that takes connections).",
    ),
    spec_option(
        "--liveness",
        key="service.liveness",
        metavar="PATH|tcp",
        help="A replica is started again when this doesn't answer any more (default: never).",
    ),
    spec_option(
        "--drain",
        key="service.drain",
        metavar="TIME",
        help="How long a replica that is told to end may take to finish what it has (default: 30s).",
    ),
    spec_option(
        "--target-inflight",
        key="service.target.inflight",
        metavar="N",
        help="A range scales so that each replica has so many requests at a time.",
    ),
    spec_option(
        "--target-rps",
        key="service.target.requests_per_second",
        metavar="N",
        help="So that each replica has so many requests per second.",
    ),
    spec_option(
        "--target-gpu",
        key="service.target.gpu_utilization",
        metavar="PERCENT",
        help="So that the GPUs work so much.",
    ),
    spec_option(
        "--target-p99",
        key="service.target.p99",
        metavar="TIME",
        help="So that 99 of 100 requests take so long at most, such as 800ms.",
    ),
    spec_option(
        "--target-query",
        key="service.target.query",
        metavar="PROMQL",
        help="On a cluster with KEDA: so that each replica has --target-value of what Prometheus answers.",
    ),
    spec_option(
        "--target-value", key="service.target.value", metavar="N", help="How much of it one replica takes."
    ),
    spec_option(
        "--scale-to-zero",
        key="service.scale_to_zero",
        metavar="TIME",
        help="Without a request for so long it has no replica; the next one starts it (default: never).",
    ),
    spec_option(
        "--max-surge",
        key="service.max_surge",
        metavar="N|PERCENT",
        help="Replicas more than wanted during an update (default: 1, or 0 where no GPU is free for it).",
    ),
    spec_option(
        "--max-unavailable",
        key="service.max_unavailable",
        metavar="N|PERCENT",
        help="Replicas fewer than wanted that are ready during an update (default: 0, or 1 without a surge).",
    ),
)


def service_options(function: Function) -> Function:
    """`-f`, `--env-file`, and one for each key of `service`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    function = click.option(
        "--env-file", type=click.Path(path_type=Path), multiple=True, help="Lines of K=V or K; --env wins."
    )(function)
    return click.option(
        "-f", "--file", type=click.Path(path_type=Path), help="Spec file; flags win over it."
    )(function)


def prometheus_option(function: Function) -> Function:
    """`--prometheus`: what KEDA asks."""
    return click.option(
        "--prometheus",
        metavar="URL",
        help="The Prometheus that KEDA asks, as the cluster reaches it (default: GPUYARD_PROMETHEUS, else "
        "the one that is found).",
    )(function)


def settle_scaling(flags: list[Flag]) -> None:
    """Has options of scaling take the place of what a file says of it otherwise, in place.

    A measure takes the place of another one, and a fixed number that of whatever would decide.
    """
    from gpuyard.workloads.spec.overrides import Flag

    names = {flag.path: flag.name for flag in flags}
    measures = [path for path in names if path[:-1] == _TARGET and path[-1] != "value"]
    replicas = next((flag for flag in flags if flag.path == ("service", "replicas")), None)
    if measures:
        flags.insert(0, Flag(names[measures[0]], _TARGET, {}))
    elif replicas and str(replicas.value).strip().isdecimal():
        gone: list[KeyPath] = [_TARGET, ("service", "scale_to_zero")]
        flags[:0] = [Flag(replicas.name, path, None) for path in gone if path not in names]
