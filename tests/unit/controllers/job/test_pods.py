from __future__ import annotations

import random
from copy import deepcopy
from typing import Any

from gpuyard.controllers.job.pods import pod_of
from gpuyard.kube.names import is_subdomain


def job(name: str = "train") -> dict[str, Any]:
    container = {"name": "main", "command": ["true"], "env": [{"name": "A", "value": "1"}]}
    return {
        "metadata": {"name": name, "namespace": "team", "uid": "u-1"},
        "spec": {
            "template": {
                "metadata": {"labels": {"gpuyard.io/run": name}, "annotations": {"a": "b"}},
                "spec": {"containers": [container], "restartPolicy": "Never"},
            }
        },
    }


def test_a_pod_carries_its_jobs_name_and_its_finalizer() -> None:
    pod = pod_of(job(), None, random.Random(1))
    metadata = pod["metadata"]
    assert metadata["labels"] == {
        "gpuyard.io/run": "train",
        "batch.kubernetes.io/job-name": "train",
        "batch.kubernetes.io/controller-uid": "u-1",
        "job-name": "train",
        "controller-uid": "u-1",
    }
    assert metadata["finalizers"] == ["batch.kubernetes.io/job-tracking"]
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": "train",
            "uid": "u-1",
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    assert metadata["namespace"] == "team"
    assert metadata["annotations"] == {"a": "b"}
    assert "hostname" not in pod["spec"]


def test_an_index_is_in_name_annotation_label_hostname_and_environment() -> None:
    pod = pod_of(job(), 7, random.Random(1))
    assert pod["metadata"]["name"].startswith("train-7-")
    assert pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] == "7"
    assert pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "7"
    assert pod["spec"]["hostname"] == "train-7"
    assert pod["spec"]["containers"][0]["env"] == [
        {"name": "A", "value": "1"},
        {
            "name": "JOB_COMPLETION_INDEX",
            "valueFrom": {
                "fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']"}
            },
        },
    ]


def test_a_users_own_index_variable_stays() -> None:
    raw = job()
    raw["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "JOB_COMPLETION_INDEX", "value": "x"}]
    pod = pod_of(raw, 0, random.Random(1))
    assert pod["spec"]["containers"][0]["env"] == [{"name": "JOB_COMPLETION_INDEX", "value": "x"}]


def test_the_template_is_not_touched() -> None:
    raw = job()
    before = deepcopy(raw)
    pod_of(raw, 3, random.Random(1))
    assert raw == before


def test_a_long_job_name_still_gives_a_name_of_one_dns_label() -> None:
    for name in ("a" * 63, "a" * 55 + ".b", "a" * 56 + "-b"):
        for index in (None, 12345):
            made = pod_of(job(name), index, random.Random(1))["metadata"]["name"]
            assert is_subdomain(made)
            assert len(made) <= 63


def test_two_pods_of_a_job_have_different_names() -> None:
    rng = random.Random(1)
    assert len({pod_of(job(), None, rng)["metadata"]["name"] for _ in range(100)}) == 100
