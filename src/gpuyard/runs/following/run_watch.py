"""One run, kept current by watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gpuyard import errors
from gpuyard.kube.objects import JOBS, PODS, Manifest, uid_of
from gpuyard.runs.following.named_watch import NamedWatch
from gpuyard.runs.run import Run, has_ended, make_run
from gpuyard.runs.target import Target
from gpuyard.workloads.outcome import Reason

#: What a Job without pods says when it knows no more than that they are gone.
_SAYS_LITTLE = (Reason.WAITING_FOR_POD, Reason.JOB_FAILED, Reason.COMPLETED)


class RunWatch(NamedWatch):
    """Owns the watches of one run; `change` waits for the next thing that happens to it."""

    def __init__(self, target: Target, name: str) -> None:
        """Asks for nothing before `watching`."""
        super().__init__(target, name, (JOBS, PODS))
        self._job_uid = ""
        self._gone: dict[str, Manifest] = {}
        self.informers[PODS].add_handler(self._keep_gone)

    @property
    def run(self) -> Run:
        """The run as it is now, or was when the API answered last.

        Raises:
            GpuyardError: somebody removed it, be it to put another of this name in its place.
        """
        for job in self.informers[JOBS].objects.values():
            if self._job_uid not in ("", uid_of(job)):
                break
            self._job_uid = uid_of(job)
            run = make_run(job, list(self.informers[PODS].objects.values()))
            if run.pods or not self._gone or run.state.reason not in _SAYS_LITTLE:
                return run
            # Its last pod, as it was seen last, says what it waits for, or why it ended so soon.
            ended = list(self._gone.values())
            if run.state.reason is not Reason.COMPLETED:
                ended = [{**pod, "status": {**pod["status"], "phase": "Failed"}} for pod in ended]
            return replace(run, state=make_run(job, ended).state)
        raise errors.GpuyardError(f"{self.name} was removed while it was followed")

    @property
    def gone(self) -> list[Manifest]:
        """Pods that were there and are deleted, as they were last."""
        return list(self._gone.values())

    def _keep_gone(self, old: Manifest | None, new: Manifest | None) -> None:
        if new is None and old is not None:
            self._gone[uid_of(old)] = old


def _unseen(run: Run) -> None:
    """For who wants only the end."""


async def watch_to_end(target: Target, name: str, seen: Callable[[Run], None] = _unseen) -> Run:
    """The run once nothing of it is alive any more.

    Args:
        target: where it is.
        name: its name.
        seen: given the run each time that something of it has changed.

    Raises:
        GpuyardError: somebody removed it.
        ConnectionFailed: the API has been away for a minute.
    """
    watch = RunWatch(target, name)
    async with watch.watching():
        while not (watch.is_synced and has_ended(watch.run)):
            if watch.is_synced:
                seen(watch.run)
            await watch.change()
        return watch.run
