"""What --dry-run prints is what is sent, and a Kubernetes with Pod Security's "restricted" takes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.gpuyard_on import Gpuyard
from tests.e2e.test_dry_run import assert_within

_PATHS = {"ConfigMap": "configmaps", "Job": "jobs.batch"}
_RUNS = {
    "script": (
        *("--gpus=H100:2", "--memory=64Mi", "--shm=16Mi", "--env=TEXT=on", "--env=COST=$home", "--retries=3"),
        *("--node-selector=kubernetes.io/os=linux", "--toleration=dedicated=ml:NoSchedule", "train.py"),
        *("--", "--epochs", "$(PATH)"),
    ),
    "python": ("--gpus=1", "--", "python3", "-c", "print(1)"),
    "shell": ("--gpus=1", "--cpus=100m", "--", "sh", "-c", "echo $((1 + 1))\necho 3"),
    "without-gpus": ("--toleration=nvidia.com/gpu", "--workdir=/tmp", "--", "pwd"),
}


@pytest.fixture
def words(image: str, team: str, gpuyard: Gpuyard) -> Callable[[str], Sequence[str]]:
    """The command line of a run in the team's namespace, after `gpuyard run`."""
    (gpuyard.folder / "train.py").write_text("import sys\n\nprint(sys.argv[1:])\n")

    def words_of(run: str) -> Sequence[str]:
        return "--image", image, f"--namespace={team}", f"--name={run}", *_RUNS[run]

    return words_of


def dry_run(gpuyard: Gpuyard, *words: str, output: str = "json") -> str:
    """What is printed; nothing is said of it."""
    done = gpuyard("run", "--dry-run", "-o", output, *words)
    assert (done.code, done.err) == (0, ""), done
    return done.out


def objects(printed: str) -> list[dict[str, Any]]:
    """What `-o json` printed: one object, or a list."""
    found = json.loads(printed)
    items: list[dict[str, Any]] = found["items"] if found["kind"] == "List" else [found]
    return items


@pytest.mark.parametrize("run", _RUNS)
def test_it_is_what_is_sent(
    gpuyard: Gpuyard, team: str, words: Callable[[str], Sequence[str]], run: str
) -> None:
    printed = objects(dry_run(gpuyard, *words(run)))
    assert gpuyard.json("ps", f"--namespace={team}") == []
    gpuyard.ok("run", "-d", *words(run))
    there = {}
    for manifest in printed:
        metadata = manifest["metadata"]
        assert metadata["namespace"] == team
        path = (_PATHS[manifest["kind"]], metadata["name"], f"-n={team}", "-o=json")
        made = json.loads(gpuyard.cluster.kubectl("get", *path))
        assert_within(manifest, made)
        there[manifest["kind"]] = made
    [job] = [manifest for manifest in printed if manifest["kind"] == "Job"]
    assert_nothing_besides(job, there["Job"])
    carried = gpuyard.cluster.kubectl("get", "configmaps", f"-n={team}", "-l=gpuyard.io/run", "-o=name")
    assert len(carried.split()) == len(printed) - 1
    assert [made.get("immutable") for kind, made in there.items() if kind == "ConfigMap"] == [True] * (
        len(printed) - 1
    )


def assert_nothing_besides(sent: dict[str, Any], made: dict[str, Any]) -> None:
    """What a Job and its pods have that wasn't printed are the server's defaults."""
    pod, printed = (m["spec"]["template"]["spec"] for m in (made, sent))
    assert pod.keys() - printed.keys() <= {"dnsPolicy", "schedulerName", "terminationGracePeriodSeconds"}
    container, asked = pod["containers"][0], printed["containers"][0]
    assert container.keys() - asked.keys() <= {
        *("imagePullPolicy", "resources", "terminationMessagePath", "terminationMessagePolicy"),
    }
    annotations = dict(made["metadata"]["annotations"])
    # A dry run submits nothing, and has no time of it.
    assert annotations.pop("gpuyard.io/submitted-at")
    assert annotations == sent["metadata"]["annotations"]


@pytest.mark.parametrize("run", _RUNS)
def test_a_namespace_that_is_restricted_admits_it(
    gpuyard: Gpuyard, team: str, words: Callable[[str], Sequence[str]], run: str
) -> None:
    kubectl = gpuyard.cluster.kubectl
    text = dry_run(gpuyard, *words(run), output="yaml")
    printed = objects(dry_run(gpuyard, *words(run)))
    said = kubectl("apply", "--dry-run=server", "-f", "-", stdin=text)
    assert said.splitlines() == [
        f"{manifest['kind'].lower()}{'.batch' if manifest['kind'] == 'Job' else ''}/"
        f"{manifest['metadata']['name']} created (server dry run)"
        for manifest in printed
    ]
    # Of Jobs a namespace only warns; it is pods that it refuses.
    template = printed[-1]["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": team},
        "spec": template["spec"],
    }
    assert "pod/p created" in kubectl("create", "--dry-run=server", "-f", "-", stdin=pod)


def test_the_namespace_is_the_context_s(gpuyard: Gpuyard, image: str) -> None:
    [job] = objects(dry_run(gpuyard, "--image", image, "--toleration=nvidia.com/gpu", "--", "true"))
    assert job["metadata"]["namespace"] == "default"


def test_a_cluster_that_is_away_is_not_asked(gpuyard: Gpuyard, image: str, tmp_path: Path) -> None:
    config = json.loads(gpuyard.cluster.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    away = tmp_path / "kubeconfig"
    away.write_text(json.dumps(config))
    words = ("--dry-run", "--image", image, "-n", "a", "--gpus=1", "--", "true")
    there, done = gpuyard("run", *words), replace(gpuyard, kubeconfig=away)("run", *words)
    assert (done.code, done.out) == (0, there.out), done
    [note] = done.err.splitlines()
    assert note.startswith("Note: the image isn't checked against the nodes: ")


def test_what_would_be_refused_is_printed_with_the_reason(gpuyard: Gpuyard, image: str) -> None:
    done = gpuyard("run", "--dry-run", "-o", "json", "--image", image, "--gpus=9", "--", "true")
    assert done.code == 0 and done.err.startswith("Note: it would be refused: no node could ever run this: ")
    [_, job] = objects(done.out)
    limits = job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"nvidia.com/gpu": "9"}
