"""Options of a service over what a file says of its scaling."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gpuyard.cli.commands.serve import command
from gpuyard.cli.options.service import settle_scaling
from gpuyard.cli.options.spec import flags_of
from gpuyard.errors import SpecError
from gpuyard.workloads.spec.run_spec import load_spec
from gpuyard.workloads.spec.service.values import LoadTarget, Measure, ServiceSpec

SCALED = "{port: 8000, replicas: 1..8, target: {inflight: 4}, scale_to_zero: 15m}"
BY_QUERY = "{port: 8000, replicas: 1..8, target: {query: up, value: 4}}"


def service(file: str, *arguments: str) -> ServiceSpec:
    with command.make_context("serve", list(arguments)) as context:
        flags = flags_of(context)
        settle_scaling(flags)
    found = load_spec(f"run: 'true'\nservice: {file}", "file", flags, {}).service
    assert found is not None
    return found


def test_a_fixed_number_needs_nothing_that_decides() -> None:
    assert service(SCALED, "--replicas", "3") == ServiceSpec(8000, 3, 3)


def test_another_measure_takes_the_place_of_the_file_s() -> None:
    found = service(SCALED, "--target-rps", "20")
    assert found.target == LoadTarget(Measure.REQUESTS_PER_SECOND, Decimal(20))
    assert (found.least, found.most) == (1, 8)


def test_a_query_has_its_value_in_either_order() -> None:
    expected = LoadTarget(Measure.QUERY, Decimal(2), "down")
    value, query = "--target-value=2", "--target-query=down"
    assert service(SCALED, value, query).target == service(SCALED, query, value).target == expected


def test_a_query_may_have_another_value() -> None:
    assert service(BY_QUERY, "--target-value", "9").target == LoadTarget(Measure.QUERY, Decimal(9), "up")


@pytest.mark.parametrize(
    "words",
    [("--target-rps", "1", "--target-p99", "1s"), ("--replicas", "3", "--target-rps", "1"),
     ("--replicas", "3", "--scale-to-zero", "5m")],
)  # fmt: skip
def test_options_that_do_not_agree_are_told(words: tuple[str, ...]) -> None:
    with pytest.raises(SpecError):
        service(SCALED, *words)
