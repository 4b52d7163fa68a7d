from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpuyard.local.kubelet.probing.health import ContainerHealth, ProbeFinding
from gpuyard.local.kubelet.probing.probe import ContainerProbe, ProbeKind, probes_of

STARTUP, READINESS, LIVENESS = ProbeKind.STARTUP, ProbeKind.READINESS, ProbeKind.LIVENESS

_kinds = st.sampled_from(list(ProbeKind))
_probes = st.dictionaries(_kinds, st.tuples(st.integers(1, 4), st.integers(1, 4))).map(
    lambda found: {
        kind: ContainerProbe(kind, {}, successes=up if kind is READINESS else 1, failures=down)
        for kind, (up, down) in found.items()
    }
)
_answers = st.lists(st.tuples(_kinds, st.booleans()), max_size=40)


@given(_probes, _answers)
def test_verdicts_change_after_so_many_answers_in_a_row(
    probes: dict[ProbeKind, ContainerProbe], answers: list[tuple[ProbeKind, bool]]
) -> None:
    health = ContainerHealth.of(probes)
    heard: dict[ProbeKind, list[bool]] = {kind: [] for kind in ProbeKind}
    for kind, succeeded in answers:
        before = health
        health = health.after(kind, succeeded)
        if not before.asks(kind):
            assert health == before
            continue
        heard[kind].append(succeeded)
        probe = probes[kind]
        if health.findings[kind].holds != before.findings[kind].holds:
            needed = probe.successes if succeeded else probe.failures
            assert heard[kind][-needed:] == [succeeded] * needed
        if health.failed:
            assert heard[health.failed][-probes[health.failed].failures :] == [False] * (
                probes[health.failed].failures
            )


@given(_probes, _answers)
def test_what_holds_of_all_states(
    probes: dict[ProbeKind, ContainerProbe], answers: list[tuple[ProbeKind, bool]]
) -> None:
    health = ContainerHealth.of(probes)
    failed = started = False
    for kind, succeeded in [(kind, ok) for kind, ok in answers if kind in probes]:
        health = health.after(kind, succeeded)
        assert health.is_started or not health.is_ready
        assert health.asks(STARTUP) <= (STARTUP in probes and not health.is_started)
        assert not (health.asks(STARTUP) and (health.asks(READINESS) or health.asks(LIVENESS)))
        # What has started has started, and what has failed has failed, until it starts again.
        assert health.is_started >= started
        assert (health.failed is not None) >= failed
        failed, started = health.failed is not None, health.is_started
        if failed:
            assert not health.asks(LIVENESS)
            assert not health.asks(STARTUP)


@given(_probes, _answers)
def test_a_container_that_is_to_end_fails_nothing_and_is_asked_whether_it_serves(
    probes: dict[ProbeKind, ContainerProbe], answers: list[tuple[ProbeKind, bool]]
) -> None:
    health = ContainerHealth.of(probes, started=True, ready=True).ending()
    assert health.is_ready
    for kind, succeeded in answers:
        health = health.after(kind, succeeded)
    assert health.failed is None
    assert health.asks(READINESS) == (READINESS in probes)


def test_of_a_container_without_probes() -> None:
    health = ContainerHealth.of({})
    assert health.is_started
    assert health.is_ready
    assert not any(health.asks(kind) for kind in ProbeKind)


def test_nothing_is_asked_while_its_hook_goes_on() -> None:
    health = ContainerHealth.of({READINESS: ContainerProbe(READINESS, {})}, held=True)
    assert not health.is_started
    assert not health.asks(READINESS)
    assert health.released().asks(READINESS)


def test_what_an_earlier_kubelet_found_stands_until_answers_say_otherwise() -> None:
    readiness = ContainerProbe(READINESS, {}, failures=2)
    health = ContainerHealth.of(
        {STARTUP: ContainerProbe(STARTUP, {}), READINESS: readiness}, started=True, ready=True
    )
    health = health.after(READINESS, False)
    assert health.is_ready
    assert not health.after(READINESS, False).is_ready
    assert health.findings[READINESS] == ProbeFinding(True, False, 1)


def test_probes_are_read_from_the_manifest() -> None:
    raw = {
        "httpGet": {"path": "/", "port": 8000, "scheme": "HTTP"},
        "initialDelaySeconds": 5,
        "periodSeconds": 2,
        "timeoutSeconds": 3,
        "successThreshold": 1,
        "failureThreshold": 7,
        "terminationGracePeriodSeconds": 9,
    }
    [(kind, probe)] = probes_of({"name": "a", "livenessProbe": raw}).items()
    assert kind is LIVENESS
    assert probe == ContainerProbe(LIVENESS, {"httpGet": raw["httpGet"]}, 5, 2, 3, 1, 7, 9)
    assert (probe.first_turn_s, ContainerProbe(READINESS, {}).first_turn_s) == (5, 10)
