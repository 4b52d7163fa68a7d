"""A hundred pods that do nothing, twenty at a time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench.row import Row
from bench.yard import BenchYard, running_yard
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import JOBS, PODS
from gpuyard.kube.wellknown import IMAGE_PROCESS, LABEL_JOB_NAME, RUNTIME_CLASS_PROCESS
from gpuyard.local.paths import find_paths

_PODS = 100
_AT_ONCE = 20


def measure() -> list[Row]:
    """Pods a second, from the creation of their Job until it says that all of them succeeded."""
    with running_yard() as yard:
        took = asyncio.run(_run_job(yard))
    return [Row("pods of /bin/true", _PODS / took, "/s", 20, "kubelet", 2, higher_is_better=True)]


async def _run_job(yard: BenchYard) -> float:
    async with RestApi(unix_socket=find_paths(yard.environ).api_socket) as api:
        began = time.perf_counter()
        made = await api.create(JOBS, _job(), "default")
        version = made["metadata"]["resourceVersion"]
        await until_succeeded(api, version, _PODS)
        took = time.perf_counter() - began
        pods = await api.list(PODS, "default", label_selector=f"{LABEL_JOB_NAME}=bench")
        assert [pod["status"]["phase"] for pod in pods.items] == ["Succeeded"] * _PODS
        return took


async def until_succeeded(api: RestApi, version: str, count: int) -> None:
    """Returns when a Job says that so many of its pods have succeeded.

    Args:
        api: of a yard with one Job.
        version: before which nothing is looked at.
        count: all of its pods.
    """
    async for event in api.watch(JOBS, "default", resource_version=version):
        status = event.object.get("status", {})
        assert not status.get("failed"), status
        if status.get("succeeded") == count:
            return
    raise AssertionError("the watch ended before the Job did")


def _job() -> dict[str, Any]:
    container = {"name": "main", "image": IMAGE_PROCESS, "command": ["/bin/true"]}
    pod = {"runtimeClassName": RUNTIME_CLASS_PROCESS, "restartPolicy": "Never", "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "bench"},
        "spec": {"completions": _PODS, "parallelism": _AT_ONCE, "template": {"spec": pod}},
    }
