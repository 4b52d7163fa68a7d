"""How a service is updated, by its user's keys and the room that there is."""

from __future__ import annotations

import pytest

from gpuyard import errors
from gpuyard.runs.submitting.services.decision import ENV_PROMETHEUS, update_bounds, with_prometheus
from gpuyard.workloads.spec.service.values import ServiceSpec


@pytest.mark.parametrize(
    ("surge", "unavailable", "room", "expected"),
    [
        (None, None, 1, (1, 0)),
        (None, None, 0, (0, 1)),
        (2, None, 0, (2, 0)),
        (0, None, 1, (0, 1)),
        ("0%", None, 1, ("0%", 1)),
        (None, 0, 0, (1, 0)),
        (None, 0, 1, (1, 0)),
        (None, 2, 0, (0, 2)),
        (None, "50%", 1, (1, "50%")),
        ("25%", 1, 0, ("25%", 1)),
    ],
)
def test_a_user_s_keys_win_and_an_update_can_always_begin(
    surge: int | str | None, unavailable: int | str | None, room: int, expected: tuple[int | str, int | str]
) -> None:
    service = ServiceSpec(80, max_surge=surge, max_unavailable=unavailable)
    assert update_bounds(service, room) == expected


def test_an_address_of_prometheus_is_one() -> None:
    assert with_prometheus({}, "http://p.m.svc:9090")[ENV_PROMETHEUS] == "http://p.m.svc:9090"
    assert with_prometheus({"A": "1"}, None) == {"A": "1"}
    with pytest.raises(errors.UsageError, match="no address of Prometheus"):
        with_prometheus({}, "prometheus:9090")
    with pytest.raises(errors.UsageError):
        with_prometheus({ENV_PROMETHEUS: "x"}, None)
