"""What tests ask of a cluster's pods and nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.namespaces import ClusterError
from tests.waiting import until

T = TypeVar("T")
GPU = "nvidia.com/gpu"
TIMEOUT_S = 60.0
#: Prints the devices that it was given, and waits; SIGTERM ends it at once, with an exit code of 3.
WAIT = 'trap "exit 3" TERM; echo "devices=$CUDA_VISIBLE_DEVICES"; while :; do sleep 3600 & wait $!; done'


def container(
    name: str, registry: str, command: str = WAIT, *, gpus: int = 0, resource: str = GPU, **fields: object
) -> dict[str, Any]:
    """A container that runs a line of shell in busybox."""
    raw: dict[str, Any] = {
        "name": name,
        "image": f"{registry}/busybox:1",
        "command": ["/bin/sh", "-c", command],
        **fields,
    }
    if gpus:
        raw["resources"] = {"limits": {resource: gpus}}
    return raw


@dataclass(frozen=True)
class Pods:
    """The pods of one namespace.

    Attributes:
        resource: what those that ask for GPUs get.
    """

    cluster: Cluster
    namespace: str
    resource: str = GPU

    def kubectl(self, *arguments: str, stdin: object = None) -> str:
        """In this namespace."""
        return self.cluster.kubectl(f"--namespace={self.namespace}", *arguments, stdin=stdin)

    def create(self, name: str, *, node: str, gpus: int = 0, command: str = WAIT, **spec: object) -> None:
        """A pod with one container, named main, that the scheduler puts on the node."""
        main = container("main", self.cluster.registry, command, gpus=gpus, resource=self.resource)
        self.create_spec(name, node=node, containers=[main], **spec)

    def create_spec(self, name: str, *, node: str, **spec: object) -> None:
        """A pod that the scheduler puts on the node."""
        raw = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": node},
                "terminationGracePeriodSeconds": 1,
                **spec,
            },
        }
        self.kubectl("create", "-f", "-", stdin=raw)

    def get(self, name: str) -> dict[str, Any]:
        """As the API has it."""
        raw: dict[str, Any] = self.cluster.get(self._path(name))
        return raw

    def _path(self, name: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods/{name}"

    def status(self, name: str, container: str = "main") -> Mapping[str, Any]:
        """A container's status; empty before there is one."""
        status = self.get(name).get("status", {})
        listed = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        return next((entry for entry in listed if entry["name"] == container), {})

    def wait_running(self, name: str, container: str = "main", restarts: int = 0) -> None:
        """Until the container runs, after so many restarts."""

        def running() -> bool:
            status = self.status(name, container)
            return "running" in status.get("state", {}) and status["restartCount"] == restarts

        try:
            until(running, f"container {container} of pod {name} runs after {restarts} restarts")
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(self.get(name)['status'], indent=1)}") from None

    def wait_phase(self, name: str, phase: str) -> None:
        """Until the pod is in this phase."""

        def reached() -> bool:
            now = self.get(name)["status"]["phase"]
            assert now == phase or now not in {"Succeeded", "Failed"}, self.get(name)["status"]
            return bool(now == phase)

        until(reached, f"pod {name} is {phase}")

    def run(self, name: str, **fields: Any) -> str:
        """Runs a pod to its end and gives its output."""
        self.create(name, restartPolicy="Never", **fields)
        self.wait_phase(name, "Succeeded")
        return self.logs(name)

    def logs(self, name: str, container: str = "main") -> str:
        """Of the container that runs, or ran last."""
        return self.cluster.request("GET", f"{self._path(name)}/log?container={container}")

    def exec(self, name: str, command: str, container: str = "main") -> str:
        """Runs a line of shell in a container."""

        def ran() -> tuple[str] | None:
            try:
                return (
                    self.kubectl("exec", name, f"--container={container}", "--", "/bin/sh", "-c", command),
                )
            except ClusterError as error:
                # A kubelet that has just started is ready before it knows all its pods.
                if "pod does not exist" in str(error):
                    return None
                raise

        done = until(ran, f"the kubelet knows pod {name}")
        assert done is not None
        return done[0]

    def exit(self, name: str, container: str = "main") -> None:
        """Makes the container end, so that the kubelet starts it again."""
        # In the background, since this shell would end with its container.
        self.exec(name, "(sleep 0.2; kill -TERM 1) >/dev/null 2>&1 &", container)

    def devices(self, name: str, container: str = "main") -> tuple[str, ...]:
        """The GPUs that the container, as it runs now, was given: UUIDs."""

        def printed() -> str:
            try:
                return self.logs(name, container)
            except ClusterError:
                return ""  # The log of a container that has only just started may not be there yet.

        line = until(printed, f"container {container} of pod {name} prints").splitlines()[0]
        return tuple(sorted(filter(None, line.removeprefix("devices=").split(","))))


def gpu_counts(cluster: Cluster, node: str, resource: str = GPU) -> tuple[int, int]:
    """How many GPUs the node has allocatable, and its capacity."""
    status = cluster.get(f"/api/v1/nodes/{node}")["status"]
    return int(status["allocatable"].get(resource, 0)), int(status["capacity"].get(resource, 0))


def wait_for_gpus(
    cluster: Cluster,
    node: str,
    allocatable: int,
    capacity: int,
    timeout_s: float = TIMEOUT_S,
    resource: str = GPU,
) -> None:
    """Until the node has so many."""
    seen = (0, 0)

    def reached() -> bool:
        nonlocal seen
        seen = gpu_counts(cluster, node, resource)
        return seen == (allocatable, capacity)

    try:
        until(reached, f"{node} has {allocatable}/{capacity} GPUs", timeout_s=timeout_s)
    except AssertionError as error:
        raise AssertionError(f"{error}; it has {seen}") from None
