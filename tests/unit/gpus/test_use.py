import json
from dataclasses import replace
from typing import Any

import pytest

from gpuyard.gpus.use import GpuUse, pod_use, run_use, with_session

#: Of two GPUs for an hour: half busy, 1 kW together.
HOUR = GpuUse(2, 7200, 7200, 3600, 99, 7200, 7200 * 1024, 2048, 7200, 3_600_000)


def pod(annotation: str) -> dict[str, Any]:
    return {"metadata": {"annotations": {"gpuyard.io/gpu-use": annotation}}}


def test_what_people_ask_for() -> None:
    assert HOUR.held_s == 3600
    assert HOUR.summary() == {
        "gpus": 2,
        "gpu_seconds": 7200,
        "mean_utilisation_percent": 50.0,
        "peak_utilisation_percent": 99,
        "mean_memory_mib": 1024,
        "peak_memory_mib": 2048,
        "energy_kwh": 1.0,
    }


@pytest.mark.parametrize("value", [1.7e308, 1e16, float("inf"), float("nan"), -1, True, "1"])
def test_who_may_write_pods_cannot_have_sums_that_are_no_numbers(value: object) -> None:
    one = dict.fromkeys(HOUR.to_json(), value)
    assert pod_use(pod(json.dumps({"a": one, "b": one, "c": HOUR.to_json()}))) == HOUR


def test_what_nobody_measured_is_not_said_to_be_nothing() -> None:
    summary = GpuUse(gpus=1, gpu_s=60).summary()
    assert {name for name, value in summary.items() if value is None} == {
        *("mean_utilisation_percent", "peak_utilisation_percent"),
        *("mean_memory_mib", "peak_memory_mib", "energy_kwh"),
    }


def test_attempts_follow_one_another_and_pods_run_beside_one_another() -> None:
    then, beside = HOUR.then(HOUR), HOUR.beside(HOUR)
    assert (then.gpus, then.held_s, then.energy_kwh) == (2, 7200, 2.0)
    assert (beside.gpus, beside.held_s, beside.energy_kwh) == (4, 3600, 2.0)
    assert then.mean_percent == beside.mean_percent == 50


def test_a_session_is_written_again_and_again_and_counts_once() -> None:
    annotation = with_session("", "a", replace(HOUR, gpu_s=10))
    for _ in range(3):
        annotation = with_session(annotation, "a", HOUR)
    assert pod_use(pod(annotation)) == HOUR
    # Another agent's session adds to it, in whichever order they write.
    one = with_session(with_session(annotation, "b", HOUR), "a", HOUR)
    assert pod_use(pod(one)) == HOUR.then(HOUR)


def test_it_does_not_grow_for_ever_and_loses_nothing() -> None:
    annotation = ""
    for number in range(100):
        annotation = with_session(annotation, f"session-{number}", HOUR)
    assert len(json.loads(annotation)) <= 8 and len(annotation) < 4096
    used = pod_use(pod(annotation))
    assert used is not None and used.gpu_s == pytest.approx(100 * HOUR.gpu_s)


@pytest.mark.parametrize(
    "annotation",
    [
        "",
        "{",
        "[]",
        '{"a": 1}',
        '{"a": {"gpu_s": "x"}}',
        '{"a": {"gpu_s": -1}}',
        '{"a": {"gpu_s": 1e999}}',
        "null",
    ],
)
def test_what_is_not_readable_says_nothing(annotation: str) -> None:
    assert pod_use(pod(annotation)) is None
    assert pod_use({"metadata": {}}) is None
    good = json.loads(with_session("", "good", HOUR))
    if annotation.startswith('{"'):
        assert pod_use(pod(json.dumps({**good, **json.loads(annotation)}))) == HOUR


WHOLE_HOUR = GpuUse(gpus=8, gpu_s=8 * 3600)


def attempt(use: GpuUse | None, index: str = "") -> dict[str, Any]:
    annotations = {"gpuyard.io/gpu-use": with_session("", "a", use)} if use else {}
    if index:
        annotations["batch.kubernetes.io/job-completion-index"] = index
    return {"metadata": {"annotations": annotations}}


def test_attempts_and_pods_add_up() -> None:
    assert run_use([]) is None and run_use([attempt(None)]) is None
    attempts = run_use([attempt(WHOLE_HOUR), attempt(None), attempt(WHOLE_HOUR)])
    assert attempts is not None and (attempts.gpus, attempts.held_s) == (8, 7200)
    beside = run_use([attempt(WHOLE_HOUR, "0"), attempt(WHOLE_HOUR, "1")])
    assert beside is not None and (beside.gpus, beside.held_s) == (16, 3600)
    # A second attempt of the first of them.
    more = run_use([attempt(WHOLE_HOUR, "0"), attempt(WHOLE_HOUR, "1"), attempt(WHOLE_HOUR, "0")])
    assert more is not None and (more.gpus, more.gpu_s) == (16, 24 * 3600)
