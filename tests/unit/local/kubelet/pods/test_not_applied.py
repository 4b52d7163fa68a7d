from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gpuyard.local.kubelet.pods.not_applied import not_applied
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.podman.runtime import PodmanRuntime
from gpuyard.local.runtime.process.runtime import ProcessRuntime
from gpuyard.local.runtime.process.sandbox import Isolation, no_isolation
from gpuyard.local.runtime.runtime import Applied
from gpuyard.local.runtime.spawn import Starts

_STARTS = Starts(lambda: datetime.now(UTC), "boot")
BUBBLEWRAP, NONE = (
    ProcessRuntime(isolation, Cgroups(), _STARTS).applied
    for isolation in (Isolation("bubblewrap"), no_isolation("test"))
)
PODMAN = PodmanRuntime.applied

SPEC: dict[str, Any] = {
    "securityContext": {"runAsUser": 1000, "seccompProfile": {}, "fsGroup": None},
    "initContainers": [{"name": "i", "securityContext": {"readOnlyRootFilesystem": True}}],
    "containers": [
        {
            "name": "main",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [
                {"name": "shm", "mountPath": "/dev/shm"},
                {"name": "m", "mountPath": "/tmp/m"},
            ],
        }
    ],
    "volumes": [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
    ],
}


def test_with_isolation() -> None:
    assert not_applied(SPEC, BUBBLEWRAP) == [
        "spec.securityContext.runAsUser",
        "spec.initContainers[0].securityContext.readOnlyRootFilesystem",
        "spec.containers[0].securityContext.capabilities",
        "spec.volumes[1].emptyDir.medium",
        "spec.volumes[1].emptyDir.sizeLimit",
    ]


def test_without() -> None:
    more = set(not_applied(SPEC, NONE)) - set(not_applied(SPEC, BUBBLEWRAP))
    assert more == {
        "spec.containers[0].securityContext.allowPrivilegeEscalation",
        "spec.volumes[0].emptyDir.sizeLimit",
    }


def test_nothing() -> None:
    assert not_applied({"securityContext": {}, "containers": [{"name": "main"}]}, NONE) == []


@pytest.mark.parametrize("applied", [BUBBLEWRAP, PODMAN, NONE])
def test_last_words_are_not_read(applied: Applied) -> None:
    usual = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}
    wished = {"terminationMessagePath": "/tmp/why", "terminationMessagePolicy": "FallbackToLogsOnError"}
    assert not_applied({"containers": [usual, wished]}, applied) == [
        "spec.containers[1].terminationMessagePath",
        "spec.containers[1].terminationMessagePolicy",
    ]


def test_podman_applies_most() -> None:
    assert not_applied(SPEC, PODMAN) == [
        "spec.volumes[1].emptyDir.medium",
        "spec.volumes[1].emptyDir.sizeLimit",
    ]
    other = {**SPEC, "securityContext": {"runAsUser": 5, "seLinuxOptions": {"level": "s0"}}}
    assert not_applied(other, PODMAN)[0] == "spec.securityContext.seLinuxOptions"


def test_containers_have_process_namespaces_of_their_own() -> None:
    assert not_applied({**SPEC, "shareProcessNamespace": True}, PODMAN)[0] == "spec.shareProcessNamespace"
