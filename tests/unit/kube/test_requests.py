from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.requests import effective_limits, effective_requests

GPU = "nvidia.com/gpu"


def container(restart: str = "", **requests: str | float) -> dict[str, Any]:
    named = {GPU if name == "gpu" else name: amount for name, amount in requests.items()}
    return {"resources": {"requests": named}, **({"restartPolicy": restart} if restart else {})}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"containers": [{}]}, {}, id="nothing asked for"),
        pytest.param(
            {"containers": [container(cpu="1500m", memory="1Gi", gpu="2"), container(cpu="1", memory="1G")]},
            {"cpu": 2500, "memory": 2**30 + 10**9, GPU: 2},
            id="containers add up",
        ),
        pytest.param({"containers": [container(cpu=0.1, gpu=1)]}, {"cpu": 100, GPU: 1}, id="numbers"),
        pytest.param({"containers": [container(cpu="100u")]}, {"cpu": 1}, id="rounded up"),
        pytest.param({"containers": [container(cpu="0", memory="0")]}, {}, id="zero is not a request"),
        pytest.param(
            {"containers": [{"resources": {"limits": {GPU: "4", "cpu": "2"}, "requests": {"cpu": "1"}}}]},
            {"cpu": 1000, GPU: 4},
            id="a limit without a request counts",
        ),
        pytest.param(
            {
                "containers": [container(cpu="1", memory="1Gi")],
                "initContainers": [container(cpu="3"), container(cpu="2", memory="512Mi")],
            },
            {"cpu": 3000, "memory": 2**30},
            id="the largest init container, not their sum",
        ),
        pytest.param(
            {
                "containers": [container(cpu="1")],
                "initContainers": [container(cpu="2"), container("Always", cpu="1"), container(cpu="2")],
            },
            {"cpu": 3000},
            id="a sidecar runs beside what comes after it",
        ),
        pytest.param(
            {"containers": [container(cpu="5")], "initContainers": [container("Always", cpu="1")]},
            {"cpu": 6000},
            id="a sidecar runs beside the containers",
        ),
        pytest.param(
            {
                "containers": [container(cpu="1")],
                "initContainers": [container(cpu="2")],
                "overhead": {"cpu": "250m", "memory": "16Mi"},
            },
            {"cpu": 2250, "memory": 16 * 2**20},
            id="overhead comes on top",
        ),
    ],
)
def test_effective_requests(spec: dict[str, Any], expected: dict[str, int]) -> None:
    assert effective_requests(spec) == {**expected, "pods": 1}


def test_limits_count_apart_from_requests() -> None:
    resources = {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}
    spec = {"containers": [{"resources": resources}, {"resources": {"requests": {"memory": "1Gi"}}}]}
    assert effective_limits(spec) == {"cpu": 2000, "memory": 2**30}
    assert effective_requests(spec)["cpu"] == 1000
