"""Commands in running containers, and connections to them, for the API."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from gpuyard import errors
from gpuyard.kube.objects import Manifest, uid_of
from gpuyard.kube.pods import container_statuses
from gpuyard.local.kubelet.pod_folders import PodFolder
from gpuyard.local.objects.pod_streams import ContainerStreams, StreamOptions
from gpuyard.local.runtime.exec_process import ExecProcess
from gpuyard.local.runtime.runtimes import Runtimes


class KubeletStreams:
    """Implements `local.objects.pod_streams.PodStreams` over the pods' folders."""

    def __init__(self, pods_dir: Path, runtimes: Runtimes) -> None:
        self._pods_dir = pods_dir
        self._runtimes = runtimes
        self._numbers = itertools.count()

    async def exec(
        self, pod: Manifest, container: str, command: list[str], options: StreamOptions
    ) -> ContainerStreams:
        """See `PodStreams.exec`."""
        folder, name = self._running(pod, container)
        # Unique also beside what an earlier daemon started.
        mark = f"{name}/{os.getpid()}-{next(self._numbers)}"
        try:
            entry = await self._runtimes.enter(folder, command, tty=options.tty, mark=mark)
        except errors.BadRequest as error:
            raise errors.BadRequest(f"{_named(pod, container)}: {error.message}") from error
        return ExecProcess.start(
            entry, stdin=options.stdin, stdout=options.stdout, stderr=options.stderr, tty=options.tty
        )

    def _running(self, pod: Manifest, container: str) -> tuple[Path, str]:
        """The folder and the name of the start that runs."""
        folder = PodFolder(self._pods_dir / uid_of(pod))
        attempts = folder.attempts(container)
        state = _state(pod, container)
        if not attempts or "terminated" in state or pod["status"].get("phase") in ("Succeeded", "Failed"):
            raise errors.BadRequest(_not_running(pod, container))
        return folder.attempt(container, attempts[-1]), folder.start_name(container, attempts[-1])


def _named(pod: Manifest, container: str) -> str:
    return f'container "{container}" in pod "{pod["metadata"]["name"]}"'


def _state(pod: Manifest, container: str) -> Manifest:
    return next(
        (s.get("state") or {} for s in container_statuses(pod, init=True) if s["name"] == container), {}
    )


def _not_running(pod: Manifest, container: str) -> str:
    """Why nothing can be done in it, as the pod's status has it."""
    state, phase = _state(pod, container), (pod.get("status") or {}).get("phase", "Pending")
    if "terminated" in state:
        ended = state["terminated"]
        why = f"it has ended ({ended.get('reason', 'Error')}, exit code {ended.get('exitCode', 0)})"
    elif phase in ("Succeeded", "Failed"):
        why = f"the pod's phase is {phase}"
    else:
        why = f"it is waiting to start ({(state.get('waiting') or {}).get('reason', 'ContainerCreating')})"
    return f"{_named(pod, container)} isn't running: {why}"
