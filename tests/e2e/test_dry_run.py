"""`gpuyard run --dry-run`: the manifests that would be sent, and nothing is."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest
from ruamel.yaml import YAML

from .conftest import Yard

ARGUMENTS = (
    *("-n", "dry", "--gpus", "H100:2", "--cpus", "1500m", "--memory", "1Gi", "--shm", "64Mi"),
    *("--env", "TEXT=on", "--env", "COST=$HOME", "--retries", "3", "--toleration", "dedicated=ml:NoSchedule"),
    *("--node-selector", "kubernetes.io/os=linux", "--priority", "system-node-critical"),
)
COMMAND = ("--", "printf", "%s", "$(PATH)", "a b")


def assert_within(sent: Any, made: Any, path: str = "") -> None:
    """Everything sent is in what was made; the server may have added fields."""
    if isinstance(sent, Mapping):
        for key, value in sent.items():
            assert key in made, f"{path}.{key}"
            assert_within(value, made[key], f"{path}.{key}")
    elif isinstance(sent, list):
        assert len(sent) == len(made), path
        for index, (one, other) in enumerate(zip(sent, made, strict=True)):
            assert_within(one, other, f"{path}[{index}]")
    else:
        assert sent == made, path


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_what_it_prints_is_what_is_made(yard: Yard, output: str) -> None:
    text = yard.ok("run", *ARGUMENTS, "--dry-run", "-o", output, *COMMAND)
    sent = YAML(typ="safe").load(io.StringIO(text)) if output == "yaml" else json.loads(text)
    assert yard.json("ps") == []
    yard.ok("run", *ARGUMENTS, "-d", *COMMAND)
    made = yard.api("GET", "/apis/batch/v1/namespaces/default/jobs/dry")
    assert_within(sent, made)
    added = made["spec"]["template"]["spec"].keys() - sent["spec"]["template"]["spec"].keys()
    assert added <= {
        *("dnsPolicy", "schedulerName", "securityContext", "terminationGracePeriodSeconds"),
        *("serviceAccount", "serviceAccountName", "preemptionPolicy", "enableServiceLinks"),
    }
    assert made["spec"]["backoffLimit"] == 3
    assert sent["kind"] == "Job" and sent["metadata"]["labels"] == {"gpuyard.io/run": "dry"}


def test_yaml_is_the_default_and_says_where_it_runs(stopped_yard: Yard) -> None:
    said = stopped_yard.ok("run", "--dry-run", "--gpus", "1", "--", "true")
    assert said.startswith("# ") and "host" in said.splitlines()[0]
    assert "runtimeClassName: gpuyard-process" in said
    # Nothing was started for it.
    assert "stopped" in stopped_yard.refused(1, "ps")


def test_with_an_image_it_is_for_any_cluster(stopped_yard: Yard) -> None:
    said = stopped_yard.ok("run", "--dry-run", "--image", "python:3.12", "--gpus", "1", "--", "true")
    assert not said.startswith("#")
    assert "image: python:3.12" in said and "runtimeClassName" not in said


def test_a_yard_without_podman_refuses_images_and_says_what_would_help(stopped_yard: Yard) -> None:
    (stopped_yard.work / "bin").mkdir()
    stopped_yard.ok("up", "--simulate", "H100:1", env={"PATH": str(stopped_yard.work / "bin")})
    said = stopped_yard.refused(1, "run", "-d", "--image", "python:3.12", "--", "true")
    assert "this yard can't run images" in said and "install podman" in said
    assert stopped_yard.json("ps") == []
    stopped_yard.ok("run", "-d", "-n", "process", "--", "true")


@pytest.mark.kubectl
def test_kubectl_takes_what_it_prints(yard: Yard) -> None:
    file = yard.script("job.yaml", yard.ok("run", *ARGUMENTS, "--dry-run", "-o", "yaml", *COMMAND))
    yard.kubectl("create", "-f", str(file))
    assert yard.wait_for("dry", "succeeded")["gpus"] == 2
    assert yard.ok("logs", "dry") == "$(PATH)a b"


def test_a_host_process_is_said_to_be_one_in_json_too(stopped_yard: Yard) -> None:
    result = stopped_yard.call("run", "--dry-run", "-o", "json", "--", "true")
    assert json.loads(result.out)["kind"] == "Job"
    assert "a process of the yard's host" in result.err.lower()


def test_an_affinity_from_a_file(stopped_yard: Yard) -> None:
    preference = {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
    preferred = [{"weight": 1, "preference": preference}]
    wanted = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    stopped_yard.script("affinity.json", json.dumps(wanted))
    said = stopped_yard.ok("run", "--dry-run", "-o", "json", "--affinity", "@affinity.json", "--", "true")
    assert json.loads(said)["spec"]["template"]["spec"]["affinity"] == wanted
    assert "nowhere.yaml" in stopped_yard.refused(2, "run", "--affinity", "@nowhere.yaml", "--", "true")


@pytest.mark.parametrize("name", ["a/b", "..", "Team"])
def test_what_can_not_be_a_namespace(stopped_yard: Yard, name: str) -> None:
    for arguments in (("run", "--namespace", name, "--", "true"), ("ps", "--namespace", name)):
        assert f"'{name}' can't be a namespace" in stopped_yard.refused(2, *arguments)
