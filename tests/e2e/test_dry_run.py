"""`gpuyard run --dry-run`: the manifests that would be sent, and nothing is."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gpuyard import launcher, launcher_gpus

from .conftest import Yard

ARGUMENTS = (
    *("-n", "dry", "--gpus", "H100:2", "--cpus", "1500m", "--memory", "1Gi", "--shm", "64Mi"),
    *("--env", "TEXT=on", "--env", "COST=$home", "--retries", "3", "--toleration", "dedicated=ml:NoSchedule"),
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
    arguments = ("--dry-run", "-n", "dry", "--image", "python:3.12", "--gpus", "1", "--", "true")
    said = stopped_yard.call("run", *arguments)
    assert not said.out.startswith("#")
    config_map, job = YAML(typ="safe").load_all(said.out)
    assert (config_map["kind"], job["kind"]) == ("ConfigMap", "Job")
    # The launcher, as it is.
    files = [Path(str(module.__file__)) for module in (launcher, launcher_gpus)]
    assert config_map["data"] == {file.name: file.read_text() for file in files}
    pod = job["spec"]["template"]["spec"]
    assert "runtimeClassName" not in pod
    assert pod["containers"][0]["image"] == "python:3.12"
    assert pod["containers"][0]["command"][-2:] == ["sh", "true"]
    # It can't be known which nodes are there.
    [note] = said.err.splitlines()
    assert note.startswith("Note: the image isn't checked against the nodes: the yard is stopped")
    listed = json.loads(stopped_yard.ok("run", "-o", "json", *arguments))
    assert (listed["kind"], listed["items"]) == ("List", [config_map, job])


def test_a_script_that_is_here_goes_along(stopped_yard: Yard) -> None:
    stopped_yard.script("train.py", "print('ä')\r\n")
    said = stopped_yard.call(
        "run", "--dry-run", "--image", "python:3.12", "-o", "json", "train.py", "--", "-x"
    )
    config_map, job = json.loads(said.out)["items"]
    assert config_map["data"]["script"] == "print('ä')\r\n"
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[-3:] == ["python3", "/etc/gpuyard/run/train.py", "-x"]
    # What isn't here is the image's own.
    own = stopped_yard.ok("run", "--dry-run", "--image", "python:3.12", "-o", "json", "other.py")
    assert json.loads(own)["spec"]["template"]["spec"]["containers"][0]["command"] == ["python3", "other.py"]


def test_a_spec_s_folder_is_where_its_script_is(stopped_yard: Yard) -> None:
    (stopped_yard.work / "job").mkdir()
    (stopped_yard.work / "job" / "train.py").write_text("here")
    stopped_yard.script("train.py", "not here")
    stopped_yard.script("job/gpuyard.yaml", "image: python:3.12\nworkdir: /data\nrun: train.py 1\n")
    said = stopped_yard.ok("run", "--dry-run", "-f", "job/gpuyard.yaml", "-o", "json")
    config_map, job = json.loads(said)["items"]
    assert config_map["data"]["script"] == "here"
    assert job["spec"]["template"]["spec"]["containers"][0]["workingDir"] == "/data"


def test_a_run_whose_image_is_built_has_its_script_already(stopped_yard: Yard) -> None:
    stopped_yard.script("train.py", "")
    stopped_yard.script(
        "gpuyard.yaml", "image: {base: python:3.12, repository: r.example/t}\nrun: train.py\n"
    )
    said = stopped_yard.ok("run", "--dry-run", "-f", "gpuyard.yaml", "-o", "json")
    assert json.loads(said)["kind"] == "Job"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"#" * (1 << 20), "train.py has 1048576 bytes"),
        (b"\xff\xfe", "train.py isn't text in UTF-8"),
        (b"a\0b", "train.py isn't a script"),
        ("folder", "train.py isn't a file"),
        ("fifo", "train.py isn't a file"),
        ("nowhere", "train.py isn't a file"),
    ],
)
def test_a_script_that_can_not_go_along(stopped_yard: Yard, content: bytes | str, said: str) -> None:
    file = stopped_yard.work / "train.py"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "folder":
        file.mkdir()
    elif content == "fifo":
        os.mkfifo(file)
    else:
        file.symlink_to(content)
    told = stopped_yard.refused(2, "run", "--dry-run", "--image", "python:3.12", "train.py")
    assert said in told and "gpuyard build" in told


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


def test_a_priority_is_the_class_that_would_be_sent(stopped_yard: Yard) -> None:
    def sent() -> str:
        job = json.loads(
            stopped_yard.ok("run", "--dry-run", "-o", "json", "--priority", "high", "--", "true")
        )
        return str(job["spec"]["template"]["spec"]["priorityClassName"])

    assert sent() == "gpuyard-high"
    stopped_yard.ok("up")
    assert sent() == "gpuyard-high"
    high = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "high"},
        "value": 5,
    }
    stopped_yard.api("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", high)
    assert sent() == "high"
