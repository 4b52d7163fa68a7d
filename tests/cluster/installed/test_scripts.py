"""A script of this machine in an image that knows nothing of gpuyard, on a real Kubernetes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.gpuyard_on import CONTEXT, Gpuyard
from tests.waiting import until

_TRAIN = "import os, sys\nprint(sys.argv[1:], os.environ.get('CUDA_VISIBLE_DEVICES', '').count('GPU-'))\n"


@pytest.fixture
def script(gpuyard: Gpuyard) -> Path:
    """A script in the folder where commands are called."""
    file = gpuyard.folder / "train.py"
    file.write_text(_TRAIN)
    return file


def on_any_node(image: str, team: str) -> tuple[str, ...]:
    """Options of a run without GPUs; all nodes of this cluster are tainted against those."""
    return "--image", image, f"--namespace={team}", "--toleration=nvidia.com/gpu"


def config_maps(gpuyard: Gpuyard, team: str) -> dict[str, Any]:
    """Those of runs, by name."""
    said = gpuyard.cluster.kubectl("get", "configmaps", f"-n={team}", "-l=gpuyard.io/run", "-o=json")
    return {item["metadata"]["name"]: item for item in json.loads(said)["items"]}


def test_a_script_runs_with_its_arguments_and_goes_with_its_run(
    gpuyard: Gpuyard, image: str, team: str, script: Path
) -> None:
    script.write_text(_TRAIN + "sys.exit(7)\n")
    words = ("--image", image, f"--namespace={team}", "-n", "train", "--gpus=2", "train.py")
    done = gpuyard("run", *words, "--", "--epochs", "3 and $HOME")
    assert (done.code, done.out) == (7, "['--epochs', '3 and $HOME'] 2\n"), done
    assert done.err.splitlines()[0] == "Submitted train (2 GPUs) with train.py from here"
    [config_map] = config_maps(gpuyard, team).values()
    assert config_map["immutable"] and config_map["data"]["script"] == script.read_text()
    [owner] = config_map["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Job", "train")
    gpuyard.ok("rm", "train", f"--namespace={team}")
    until(lambda: not config_maps(gpuyard, team), "the script went with its run")


def test_a_change_is_another_config_map_and_equal_content_is_replaced(
    gpuyard: Gpuyard, image: str, team: str, script: Path
) -> None:
    words = (*on_any_node(image, team), "-n", "train", "train.py")
    assert gpuyard.ok("run", *words) == "[] 0\n"
    [(first, before)] = config_maps(gpuyard, team).items()
    assert gpuyard.ok("run", "--replace", *words) == "[] 0\n"
    [(again, after)] = config_maps(gpuyard, team).items()
    assert again == first
    assert after["metadata"]["ownerReferences"] != before["metadata"]["ownerReferences"]
    taken = gpuyard("run", *words)
    assert taken.code == 2 and "there is a run 'train' already" in taken.err
    # The run that is there keeps its script.
    assert config_maps(gpuyard, team) == {again: after}
    script.write_text(_TRAIN + "print('changed')\n")
    assert gpuyard.ok("run", "--replace", *words) == "[] 0\nchanged\n"
    until(lambda: len(config_maps(gpuyard, team)) == 1, "the former script is gone")
    assert config_maps(gpuyard, team).keys() != {first}


def test_what_an_interrupt_left_is_no_obstacle(gpuyard: Gpuyard, image: str, team: str, script: Path) -> None:
    words = (*on_any_node(image, team), "-n", "train", "train.py")
    [config_map, _] = json.loads(gpuyard.ok("run", "--dry-run", "-o", "json", *words))["items"]
    # As a kill between the two creates leaves it: without an owner.
    gpuyard.cluster.kubectl("create", "-f", "-", stdin=config_map)
    assert gpuyard.ok("run", *words) == "[] 0\n"
    [found] = config_maps(gpuyard, team).values()
    assert found["metadata"]["name"] == config_map["metadata"]["name"]
    assert [owner["name"] for owner in found["metadata"]["ownerReferences"]] == ["train"]


def test_a_config_map_of_somebody_else_s_is_not_taken(
    gpuyard: Gpuyard, image: str, team: str, script: Path
) -> None:
    words = (*on_any_node(image, team), "-n", "train", "train.py")
    [config_map, _] = json.loads(gpuyard.ok("run", "--dry-run", "-o", "json", *words))["items"]
    gpuyard.cluster.kubectl("create", "-f", "-", stdin=config_map | {"data": {"script": "theirs"}})
    done = gpuyard("run", *words)
    assert done.code == 2 and "it isn't this run's" in done.err
    [left] = config_maps(gpuyard, team).values()
    assert left["data"] == {"script": "theirs"}
    assert gpuyard.json("ps", f"--namespace={team}") == []


def test_a_job_that_is_refused_leaves_nothing(gpuyard: Gpuyard, image: str, team: str, script: Path) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-jobs", "namespace": team},
        "spec": {"hard": {"count/jobs.batch": "0"}},
    }
    gpuyard.cluster.kubectl("create", "-f", "-", stdin=quota)
    used = ("get", "resourcequota", "no-jobs", f"-n={team}", "-o=jsonpath={.status.hard}")
    until(lambda: gpuyard.cluster.kubectl(*used), "the quota holds")
    done = gpuyard("run", *on_any_node(image, team), "train.py")
    assert done.code == 1 and "exceeded quota: no-jobs" in done.err
    assert config_maps(gpuyard, team) == {}


@pytest.mark.parametrize("after_s", [0.25, 0.35, 0.45, 0.6])
def test_ctrl_c_during_a_submit(
    gpuyard: Gpuyard, image: str, team: str, script: Path, after_s: float
) -> None:
    """Wherever it strikes: all of the run is there afterwards or nothing, and the name is free or taken."""
    words = (*on_any_node(image, team), "-n", "train", "train.py")
    environ = {
        **os.environ,
        "KUBECONFIG": str(gpuyard.cluster.kubeconfig),
        "GPUYARD_HOME": str(gpuyard.folder),
    }
    command = [str(Path(sys.executable).with_name("gpuyard")), "run", f"--context={CONTEXT}", "-d", *words]
    with subprocess.Popen(
        command, cwd=gpuyard.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    runs = gpuyard.json("ps", f"--namespace={team}")
    owned = [bool(c["metadata"].get("ownerReferences")) for c in config_maps(gpuyard, team).values()]
    assert owned == [True] * len(runs)
    assert gpuyard.ok("run", "--replace", *words) == "[] 0\n"


def test_gpus_that_are_not_there_end_the_run(gpuyard: Gpuyard, image: str, team: str, script: Path) -> None:
    # No GPU is asked of the cluster, so that none is simulated either.
    words = (*on_any_node(image, team), "--env=GPUYARD_GPUS=1", "train.py")
    done = gpuyard("run", "--name=none", *words)
    assert done.code == 78, done
    assert done.out.startswith("gpuyard: this run asked for 1 GPU, and no GPU's device node is there: ")
    assert "gpuyard: GPU check failed; set GPUYARD_ALLOW_CPU=1" in done.out
    done = gpuyard("run", "--name=cpu", "--env=GPUYARD_ALLOW_CPU=1", *words)
    assert done.code == 0 and done.out.endswith("[] 0\n"), done


@pytest.mark.parametrize(
    "command",
    [("python3", "-c", "print(1)"), ("sh", "-c", "echo $((0+1))"), ("/usr/bin/env", "echo", "1")],
)
def test_every_command_with_gpus_is_checked(
    gpuyard: Gpuyard, image: str, team: str, command: tuple[str, ...]
) -> None:
    words = ("--image", image, f"--namespace={team}", "-n", "one", "--gpus=1")
    assert gpuyard.ok("run", *words, "--", *command) == "1\n"
    [config_map, job] = json.loads(gpuyard.ok("run", "--dry-run", "-o", "json", *words, "--", *command))[
        "items"
    ]
    # The same without the GPUs, and so without their simulation: the launcher finds none.
    container = job["spec"]["template"]["spec"]["containers"][0]
    del container["resources"]
    job["metadata"]["name"] = config_map["metadata"]["name"] = "none"
    for volume in job["spec"]["template"]["spec"]["volumes"]:
        if "configMap" in volume:
            volume["configMap"]["name"] = "none"
    for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        labels["gpuyard.io/run"] = "none"
    for manifest in (config_map, job):
        gpuyard.cluster.kubectl("create", "-f", "-", stdin=manifest)
    tolerations = job["spec"]["template"]["spec"]["tolerations"]
    assert [toleration["key"] for toleration in tolerations] == ["nvidia.com/gpu"]
    done = gpuyard("logs", "-f", "none", f"--namespace={team}")
    assert "no GPU's device node is there" in done.out
    state = until(lambda: _ended(gpuyard, team), "the run has ended")
    assert state["exit_code"] == 78


def _ended(gpuyard: Gpuyard, team: str) -> Any:
    [state] = [row for row in gpuyard.json("ps", f"--namespace={team}") if row["name"] == "none"]
    return state if state["state"] == "failed" else None
