from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpuyard.explain.ladder import Ladder, climb
from gpuyard.explain.output.diagnosis import Diagnosis
from gpuyard.explain.placement import Explanation, explain
from gpuyard.explain.run_objects import RunEnd, RunObjects
from gpuyard.explain.steps.volumes import required_places
from gpuyard.kube.objects import Manifest, labels_of
from gpuyard.scheduling.requests import PodRequest
from gpuyard.scheduling.snapshot import Snapshot
from gpuyard.workloads.run_state import run_state

RECORDED = Path(__file__).parent / "recorded"


def read(name: str) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return raw


def objects_of(name: str) -> RunObjects:
    """What `kubectl get -o json` said of a Job, of the pod that is furthest behind, and of what is around."""
    raw = read(name)
    pods = sorted(raw["pods"], key=lambda pod: bool(pod["spec"].get("nodeName")))
    pod = pods[0] if pods else None
    job = raw["job"] or {"metadata": pod["metadata"], "spec": {"template": {"spec": pod["spec"]}}}  # type: ignore[index]
    lists = ("events", "quotas", "limit_ranges", "neighbours", "claims", "volumes", "classes")
    return RunObjects(job, pod, node=raw.get("node"), **{key: raw.get(key, ()) for key in lists})


def explanation_of(objects: RunObjects, nodes: str) -> Explanation | None:
    """The arithmetic over recorded nodes; None when the pod has its node."""
    if objects.pod is not None and objects.pod["spec"].get("nodeName"):
        return None
    around = read(nodes)
    request = PodRequest.of(objects.pod) if objects.pod else PodRequest.of_template(objects.job)
    request = dataclasses.replace(request, volumes=required_places(objects))
    return explain(request, Snapshot.of(around["nodes"], around.get("pods", ())))


@pytest.fixture
def recorded() -> Callable[..., Ladder]:
    """The ladder over a recording: `recorded(NAME, nodes=…, around=…, causes=…, fields of RunObjects)`."""

    def climbed(
        name: str,
        *,
        nodes: str = "nodes",
        around: Sequence[Manifest] = (),
        causes: Sequence[Diagnosis] = (),
        **fields: Any,
    ) -> Ladder:
        objects = dataclasses.replace(objects_of(name), nodes=around or read(nodes)["nodes"], **fields)
        agents = [pod for pod in read(nodes).get("pods", ()) if "app.kubernetes.io/part-of" in labels_of(pod)]
        objects = dataclasses.replace(objects, agents=agents)
        pods = [objects.pod] if objects.pod else []
        state = run_state(objects.job, pods) if "parallelism" in objects.job["spec"] else None
        ended = None
        if state is not None and state.state == "failed":
            ended = RunEnd(state.reason, state.message, state.exit_code)
        return climb(objects, explanation_of(objects, nodes), ended=ended, causes=causes)

    return climbed
