"""What the kernel kills of a pod's containers for lack of memory: counted, and told once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

from gpuyard.kube.objects import Manifest, annotations_of
from gpuyard.kube.wellknown import (
    ANNOTATION_OOM_CAUSE,
    ANNOTATION_OOM_KILLS,
    ANNOTATION_OOM_KILLS_BY_START,
)
from gpuyard.local.kubelet.pods.container_states import ContainerState
from gpuyard.local.kubelet.pods.writer import PodWriter
from gpuyard.workloads.memory_kills import OomCause, oom_kills, oom_kills_text, oom_reason

_OF_START = re.compile(r"([a-z0-9-]{1,63})/(\d{1,9})=(\d{1,9})", re.ASCII)


class OomKills:
    """The kills of one pod, over all starts of its containers.

    Each start has a cgroup that counts from 0, and is gone with it. So the pod carries beside the total how
    much of that is of which start: a new kubelet, too, adds what its cgroup has more.
    """

    def __init__(self, pod: Manifest) -> None:
        """Goes on from what the pod carries."""
        self._pod = pod
        self._total = self._told = oom_kills(pod)
        self._cause: OomCause | None = None
        starts = _OF_START.findall(annotations_of(pod).get(ANNOTATION_OOM_KILLS_BY_START, ""))
        #: By container, of its last start that lost something.
        self._of_start = {name: (int(number), int(count)) for name, number, count in starts}

    def look(self, states: Iterable[ContainerState]) -> bool:
        """Reads the counters of the containers that run; whether one has more."""
        found = False
        for state in states:
            if state.container is not None and state.container.counts_oom_kills:
                with suppress(OSError):  # for lack of descriptors: there is a later look
                    state.container.look_for_oom_kills()
                found |= self.add(state)
        return found

    def add(self, state: ContainerState) -> bool:
        """Adds what is known of the container's start; whether that is more than before."""
        if state.container is None or state.current is None:
            return False
        number, count = self._of_start.get(state.name, (-1, 0))
        known = count if number == state.current.attempt else 0
        if (more := state.container.oom_kills - known) <= 0:
            return False
        self._of_start[state.name] = (state.current.attempt, state.container.oom_kills)
        self._cause = state.container.oom_cause
        self._total += more
        return True

    async def tell(self, states: Iterable[ContainerState], writer: PodWriter) -> str:
        """Looks, has the pod carry the total and gives words for it; empty where nothing was killed since.

        Raises:
            GpuyardError: it can't be written now.
        """
        self.look(states)
        total, cause = self._total, self._cause
        if total == self._told:
            return ""
        starts = (f"{name}/{number}={count}" for name, (number, count) in self._of_start.items())
        await writer.patch_annotations(
            {
                ANNOTATION_OOM_KILLS: str(total),
                ANNOTATION_OOM_CAUSE: cause and cause.value,
                ANNOTATION_OOM_KILLS_BY_START: ",".join(starts),
            }
        )
        self._told = total
        return f"{oom_kills_text(total)}: {oom_reason(self._pod, cause)}"
