from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpuyard.cli.runs import make_run
from gpuyard.cli.target import Target
from gpuyard.cli.waiting import pull_lines
from gpuyard.client.rest import RestApi
from gpuyard.workloads.render import render
from gpuyard.workloads.spec import RunSpec

DENIED = "failed to resolve image: pull access denied: authorization failed: no basic auth credentials"


def waiting(message: str, *secrets: str) -> tuple[dict[str, Any], dict[str, Any]]:
    [job] = render(
        RunSpec(run="a", image="i", image_pull_secrets=secrets), None, name="a", namespace="default"
    )
    job["metadata"] |= {"uid": "j", "creationTimestamp": "2026-01-01T00:00:00Z"}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "j", "controller": True}
    state = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
    pod = {
        "metadata": {**job["metadata"], "name": "a-1", "uid": "p", "ownerReferences": [owner]},
        "spec": job["spec"]["template"]["spec"] | {"nodeName": "n"},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "main", "state": state}]},
    }
    return dict(job), pod


@pytest.mark.parametrize(
    ("message", "secrets", "is_yard", "words"),
    [
        (DENIED, (), False, "--image-pull-secret NAME"),
        (DENIED, ("team",), False, "pulled with team: see that it is there"),
        ("UNAUTHORIZED: authentication required", (), True, "`podman login` as the yard's user"),
        ("manifest unknown", (), False, ""),
    ],
)
async def test_what_lets_an_image_be_pulled(
    message: str, secrets: tuple[str, ...], is_yard: bool, words: str
) -> None:
    job, pod = waiting(message, *secrets)
    async with RestApi(unix_socket=Path("/nowhere")) as api:
        lines = pull_lines(Target(api, "default", is_yard=is_yard), make_run(job, [pod]))
    assert (words in "".join(lines)) and len(lines) == bool(words)
