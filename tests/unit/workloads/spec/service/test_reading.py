"""What a spec may say of a service."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.errors import SpecError
from gpuyard.workloads.spec.overrides import Flag
from gpuyard.workloads.spec.run_spec import load_spec
from gpuyard.workloads.spec.service.reading import MAX_REPLICAS, parse_replicas
from gpuyard.workloads.spec.service.values import LoadTarget, Measure, Probe, ServiceSpec


def service(keys: str, *flags: Flag) -> ServiceSpec | None:
    return load_spec(f"run: 'true'\nservice: {keys}", "spec", flags, {}).service


def problems(keys: str, *flags: Flag) -> list[str]:
    with pytest.raises(SpecError) as raised:
        service(keys, *flags)
    return [f"{problem.path}: {problem.message}" for problem in raised.value.problems]


def test_a_run_is_no_service() -> None:
    assert load_spec("run: 'true'", "spec", (), {}).service is None


def test_the_least_that_a_service_says() -> None:
    found = service("{port: 8000}")
    assert found == ServiceSpec(8000, 1, 1)
    assert found is not None and not found.is_scaled


def test_every_key() -> None:
    keys = """
  port: 8000
  replicas: 1..8
  readiness: /healthz?full=1
  liveness: [python, check.py]
  drain: 2m
  target: {inflight: 2.5}
  scale_to_zero: 15m
  max_surge: 25%
  max_unavailable: 2
"""
    assert service(keys) == ServiceSpec(
        8000,
        1,
        8,
        readiness=Probe("/healthz?full=1"),
        liveness=Probe(command=("python", "check.py")),
        drain=timedelta(minutes=2),
        target=LoadTarget(Measure.INFLIGHT, Decimal("2.5")),
        scale_to_zero=timedelta(minutes=15),
        max_surge="25%",
        max_unavailable=2,
    )


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("{requests_per_second: 20}", LoadTarget(Measure.REQUESTS_PER_SECOND, Decimal(20))),
        ("{gpu_utilization: 70%}", LoadTarget(Measure.GPU_UTILIZATION, Decimal(70))),
        ("{gpu_utilization: 70}", LoadTarget(Measure.GPU_UTILIZATION, Decimal(70))),
        ("{p99: 800ms}", LoadTarget(Measure.P99, Decimal("0.8"))),
        ("{p99: 2.0ms}", LoadTarget(Measure.P99, Decimal("0.002"))),
        ("{p99: 0.001s}", LoadTarget(Measure.P99, Decimal("0.001"))),
        ("{p99: 1.5s}", LoadTarget(Measure.P99, Decimal("1.5"))),
        ("{query: sum(up), value: 10}", LoadTarget(Measure.QUERY, Decimal(10), "sum(up)")),
        ("{inflight: 4, p99: null}", LoadTarget(Measure.INFLIGHT, Decimal(4))),
    ],
)
def test_each_target(target: str, expected: LoadTarget) -> None:
    found = service(f"{{port: 1, replicas: 1..2, target: {target}}}")
    assert found is not None and found.target == expected


def test_flags_win_over_the_file() -> None:
    flags = (
        Flag("--replicas", ("service", "replicas"), "1..4"),
        Flag("--target-inflight", ("service", "target", "inflight"), "4"),
        Flag("--readiness", ("service", "readiness"), "tcp"),
    )
    found = service("{port: 8000, replicas: 3, readiness: /x}", *flags)
    expected = LoadTarget(Measure.INFLIGHT, Decimal(4))
    assert found == ServiceSpec(8000, 1, 4, readiness=Probe(), target=expected)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("{}", "service.port: where the program listens isn't said"),
        ("8000", "service: must be a mapping"),
        ("{port: 0}", "service.port: must be at least 1"),
        ("{port: http}", "service.port: must be a whole number"),
        ("{prot: 1, port: 1}", "service.prot: unknown key; did you mean 'port'?"),
        ("{port: 1, replicas: 0}", "service.replicas: must be at least 1"),
        ("{port: 1, replicas: 0..4}", "scale_to_zero (--scale-to-zero) lets it have none"),
        ("{port: 1, replicas: 4..1}", "service.replicas: must begin with the smaller one, not 4..1"),
        ("{port: 1, replicas: many}", "service.replicas: must be a whole number, or two as in 1..8"),
        ("{port: 1, replicas: 5000}", "service.replicas: must be at most 1000"),
        ("{port: 1, replicas: 1..4}", "service.replicas: a range needs target"),
        ("{port: 1, target: {inflight: 4}}", "service.target: decides nothing"),
        ("{port: 1, replicas: 1..4, target: {}}", "service.target: needs exactly one of inflight, "),
        ("{port: 1, replicas: 1..4, target: {inflight: 4, p99: 1s}}", "not inflight and p99"),
        ("{port: 1, replicas: 1..4, target: {inflight: 0}}", "service.target.inflight: '0' is no number"),
        ("{port: 1, replicas: 1..4, target: {gpu_utilization: 101}}", "is no percentage from 1 to 100"),
        ("{port: 1, replicas: 1..4, target: {p99: 800}}", "write for example 800ms or 2s"),
        ("{port: 1, replicas: 1..4, target: {p99: 0.5ms}}", "'0.5ms' has a fraction of a millisecond"),
        ("{port: 1, replicas: 1..4, target: {p99: 1.5ms}}", "'1.5ms' has a fraction of a millisecond"),
        ("{port: 1, replicas: 1..4, target: {query: up}}", "service.target: query needs value"),
        ("{port: 1, replicas: 1..4, target: {inflight: 1, value: 1}}", "only query has a value"),
        ("{port: 1, replicas: 1..4, target: {query: ' ', value: 1}}", "service.target.query: is empty"),
        ("{port: 1, readiness: healthz}", "'healthz' must begin with a slash, or be tcp; write /healthz"),
        ("{port: 1, readiness: /a b}", "service.readiness: '/a b' is no path of HTTP"),
        ("{port: 1, liveness: []}", "service.liveness: must be a path such as /healthz, tcp, or a command"),
        ("{port: 1, liveness: {path: /}}", "service.liveness: must be a path"),
        ("{port: 1, drain: 30}", "service.drain: '30' has no unit"),
        ("{port: 1, drain: 2d}", "service.drain: '2d' must be from 1s to 1d"),
        ("{port: 1, scale_to_zero: 5m}", "service.scale_to_zero: needs replicas in a range from 1"),
        ("{port: 1, replicas: 2..3, target: {inflight: 1}, scale_to_zero: 5m}", "in a range from 1"),
        ("{port: 1, replicas: 1..3, target: {gpu_utilization: 5}, scale_to_zero: 5m}", "no replica has GPUs"),
        ("{port: 1, max_surge: -1}", "service.max_surge: '-1' is no number of replicas"),
        ("{port: 1, max_surge: 101%}", "service.max_surge: '101%' is no number of replicas"),
        ("{port: 1, max_surge: 0, max_unavailable: 0%}", "service.max_unavailable: an update could change"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(keys: str, said: str) -> None:
    [problem] = problems(keys)
    assert said in problem


def test_all_is_told_at_once_with_its_lines() -> None:
    text = "run: x\nservice:\n  port: no\n  readiness: y\n  target:\n    p99: z\n"
    with pytest.raises(SpecError) as raised:
        load_spec(text, "spec", (), {})
    assert [(problem.line, problem.path) for problem in raised.value.problems] == [
        (3, "service.port"),
        (4, "service.readiness"),
        (6, "service.target.p99"),
    ]


@given(st.integers(1, MAX_REPLICAS), st.integers(1, MAX_REPLICAS))
def test_a_range_is_read_as_it_is_written(one: int, other: int) -> None:
    least, most = sorted((one, other))
    assert parse_replicas(f"{least}..{most}") == (least, most)
    assert parse_replicas(f" {most} ") == (most, most)
