"""Argo Workflows runs steps on GPUs of gpuyard's plugin."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.harness.agent import Agent, allocatable
from tests.cluster.harness.namespaces import ClusterError
from tests.cluster.harness.objects import Pods, container
from tests.engines.engine import Engine
from tests.waiting import until

#: Its controller looks at a workflow every 10 s, and on a busy machine less often.
TIMEOUT_S = 240
#: What its documentation asks for the account of the steps, which is the default one.
EXECUTOR = (
    {
        "kind": "Role",
        "metadata": {"name": "executor"},
        "rules": [
            {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]}
        ],
    },
    {
        "kind": "RoleBinding",
        "metadata": {"name": "executor"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "executor"},
        "subjects": [{"kind": "ServiceAccount", "name": "default"}],
    },
)


@pytest.fixture(scope="module")
def argo(engine: Callable[..., Engine]) -> Engine:
    argo = engine("argo", "github.com/argoproj/argo-workflows/v4", "argo")
    argo.install(
        ["manifests/base/crds/full", "manifests/cluster-install-no-crds"],
        {"workflow-controller": argo.image("workflow-controller", "bin/workflow-controller")},
        arguments=["--executor-image", argo.image("argoexec", "bin/argoexec")],
        without=["argo-server"],
    )
    return argo


@pytest.fixture
def run_step(argo: Engine, pods: Pods) -> Callable[[str, str], dict[str, Any]]:
    """Runs a workflow of one step with a GPU to its end: `run_step(NAME, SHELL LINE)` gives the workflow."""
    for raw in EXECUTOR:
        pods.kubectl("create", "-f", "-", stdin={"apiVersion": "rbac.authorization.k8s.io/v1", **raw})

    def ran(name: str, command: str) -> dict[str, Any]:
        step = container("main", pods.cluster.registry, command, gpus=1)
        raw = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": name},
            "spec": {"entrypoint": "train", "templates": [{"name": "train", "container": step}]},
        }
        pods.kubectl("create", "-f", "-", stdin=raw)
        ended = (f"workflow/{name}", "--for=condition=Completed", f"--timeout={TIMEOUT_S}s")
        pods.cluster.kubectl("wait", f"--namespace={pods.namespace}", *ended, timeout_s=TIMEOUT_S + 10)
        return workflow(pods, name)

    return ran


def workflow(pods: Pods, name: str) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(pods.kubectl("get", "workflow", name, "-o=json"))
    return raw


def test_a_step_gets_its_gpu(
    agent: Agent, pods: Pods, run_step: Callable[[str, str], dict[str, Any]]
) -> None:
    status = run_step("trains", 'echo "devices=$CUDA_VISIBLE_DEVICES"; test -c /dev/nvidia[0-9]')["status"]
    assert status["phase"] == "Succeeded", status
    # Argo's executor prints lines of its own around them.
    printed = until(lambda: pods.logs("trains"), "the step's output", not_yet=ClusterError)
    (seen,) = (line.removeprefix("devices=") for line in printed.splitlines() if line.startswith("devices="))
    assert seen in allocatable(agent.node)


def test_a_step_that_fails_fails_its_workflow(
    agent: Agent, run_step: Callable[[str, str], dict[str, Any]]
) -> None:
    status = run_step("crashes", "exit 3")["status"]
    assert status["phase"] == "Failed"
    assert "Error (exit code 3)" in status["message"]
