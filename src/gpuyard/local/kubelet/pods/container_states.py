"""What the kubelet knows of one container of a pod: its starts, the one that runs, and its back-off.

The last start is found in the pod's folder or, where that is lost, in the pod's status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from gpuyard.kube.objects import Manifest, key_of, uid_of
from gpuyard.kube.pods import container_statuses
from gpuyard.kube.timestamps import parse_time
from gpuyard.local.kubelet.back_off import BackOff
from gpuyard.local.kubelet.image_pulls import CannotGet, Images, Pull
from gpuyard.local.kubelet.pod_folders import PodFolder
from gpuyard.local.kubelet.pods.plan import NEVER, ON_FAILURE, Observed
from gpuyard.local.kubelet.pods.status import ContainerRun, ContainerView
from gpuyard.local.kubelet.probing.health import ContainerHealth
from gpuyard.local.kubelet.probing.prober import Prober
from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.ending import is_by_chance
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.runtime.values import Exit, ExitReason

#: 128 + SIGKILL, as in Kubernetes.
_LOST_CODE = 137
#: Starts in a row that may fail by chance.
_MOST_CHANCES = 5


@dataclass
class ContainerState:
    """One container. Changed by its pod's worker only.

    Attributes:
        spec: its manifest.
        is_init: whether it is an init container.
        current: its last start.
        previous: the one before.
        container: the handle of the last start while that isn't known to have ended.
        began_s: when the last start began, on a steady clock; None where an earlier kubelet began it.
        failures: starts in a row that ended, for the back-off.
        delay_s: the back-off after the last end.
        not_before_s: no start before this, on a steady clock. Nothing keeps it: a new kubelet begins the
            back-off anew.
        obstacle: why it can't be started for now (reason, message).
        stop_grace_s: what its processes were given, None as long as nobody stops them.
        pull: of its image, where it has one.
        prober: of its last start, where it has probes or a postStart hook.
        pre_stop: its preStop hook, once it is to end.
        tasks: that end with its last start.
        hook_failed: its postStart hook has, so that it is to end.
        restarts: it is ended for failing a probe, and starts again whatever its exit code.
    """

    spec: Manifest
    is_init: bool
    current: ContainerRun | None = None
    previous: ContainerRun | None = None
    container: Container | None = None
    began_s: float | None = None
    failures: int = 0
    delay_s: float = 0.0
    not_before_s: float | None = None
    obstacle: tuple[str, str] = ("", "")
    stop_grace_s: float | None = None
    pull: Pull = field(default_factory=Pull)
    prober: Prober | None = None
    pre_stop: asyncio.Task[None] | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    hook_failed: bool = False
    restarts: bool = False

    @property
    def name(self) -> str:
        """Of the container."""
        return str(self.spec["name"])

    @property
    def is_running(self) -> bool:
        """Whether its last start goes on, as far as is known."""
        return self.container is not None

    @property
    def _has_another_chance(self) -> bool:
        """Whether its last start never came to its command, and is to be made again whatever the policy."""
        exit_ = self.current.exit if self.current else None
        if exit_ is None or exit_.reason != ExitReason.START_ERROR or self.failures >= _MOST_CHANCES:
            return False
        return is_by_chance(exit_.message)

    @property
    def health(self) -> ContainerHealth:
        """What its probes have found."""
        return self.prober.health if self.prober else ContainerHealth()

    @property
    def next_attempt(self) -> int:
        """Number of the next start."""
        return 0 if self.current is None else self.current.attempt + 1

    async def restore(self, runtimes: Runtimes, folder: PodFolder, pod: Manifest, now: datetime) -> None:
        """Finds its last two starts again, unless it has already. What the pod's status says was started
        counts as started, whatever became of its folder: a second start may be one too many.

        Raises:
            ProcessError: a journal can't be read.
        """
        attempts = folder.attempts(self.name) if self.current is None else []
        while attempts and self.current is None:
            number = attempts.pop()
            path = folder.attempt(self.name, number)
            found = await runtimes.adopt(path)
            if found is None:
                await runtimes.end_lost(folder.start_name(self.name, number))
            else:
                self.container = found if isinstance(found, Container) else None
                exit_ = found if isinstance(found, Exit) else None
                started_at = _started_at(path) if self.container is None else self.container.started_at
                self.current = ContainerRun(number, started_at, exit_)
        if attempts and self.current is not None:
            path = folder.attempt(self.name, attempts[-1])
            ended = await runtimes.adopt(path)
            if isinstance(ended, Exit):
                self.previous = ContainerRun(attempts[-1], _started_at(path), ended)
        recorded = _last_run(pod, self.name) if self.container is None else None
        if recorded is not None and recorded.attempt >= self.next_attempt:
            await runtimes.end_lost(folder.start_name(self.name, recorded.attempt))
            self.previous, self.current = self.current, _lost(recorded, now)

    def begin(self, container: Container | None, started_at: datetime, now_s: float) -> None:
        """Notes a start; without a container it is one that failed, and `end` follows."""
        self.previous = self.current
        self.current = ContainerRun(self.next_attempt, started_at)
        self.container = container
        self.began_s = now_s
        self.delay_s = 0.0
        self.obstacle = ("", "")
        self.stop_grace_s = None
        self.prober = self.pre_stop = None
        self.hook_failed = self.restarts = False
        self.pull.is_due = True

    def end(self, exit_: Exit, back_off: BackOff, now_s: float) -> None:
        """Notes the end of its last start."""
        assert self.current is not None
        self.container = None
        self.prober = None
        for task in self.tasks:
            task.cancel()
        self.tasks.clear()
        self.current = ContainerRun(self.current.attempt, self.current.started_at, exit_)
        ran_s = (exit_.finished_at - self.current.started_at).total_seconds()
        if self.began_s is not None:
            ran_s = now_s - self.began_s
        self.failures = 1 if ran_s >= back_off.reset_s else self.failures + 1
        self.delay_s = back_off.delay_s(self.failures)
        self.not_before_s = now_s + self.delay_s

    async def get_image(self, images: Images, back_off: BackOff, seconds: Callable[[], float]) -> str:
        """Gets the image of the next start; says what failed, for an event, else nothing."""
        name = str(self.spec["image"])
        try:
            self.pull.succeeded(await images.get(name, self.spec["imagePullPolicy"]))
        except CannotGet as error:
            self.pull.failed(error, back_off, seconds())
            self.obstacle = (error.reason, error.message)
            # Long enough to be seen before the back-off is.
            self.not_before_s = seconds() + back_off.obstacle_s
            return f'Failed to pull image "{name}": {error.message}'
        self.obstacle, self.not_before_s = ("", ""), None
        return ""

    def observed(self) -> Observed:
        """For the plan."""
        exit_ = self.current.exit if self.current else None
        return Observed(
            self.name,
            self.is_init,
            running=self.is_running,
            exit_code=None if exit_ is None or self._has_another_chance else exit_.code,
            restarts=self.restarts,
            not_before_s=self.not_before_s,
        )

    def told_health(self, pod: Manifest) -> tuple[bool, bool]:
        """Whether the pod's status says of its last start that it has started, and is ready."""
        told = next((one for one in container_statuses(pod) if one["name"] == self.name), {})
        if self.current is None or told.get("restartCount") != self.current.attempt:
            return False, False
        return bool(told.get("started")), bool(told.get("ready"))

    def waiting(self, pod: Manifest) -> tuple[str, str]:
        """Reason and message of a container that isn't running and will be again; else empty."""
        if self.obstacle[0]:
            return self.obstacle
        if self.current is None or self._has_another_chance:
            return ("ContainerCreating", "")
        exit_, policy = self.current.exit, pod["spec"]["restartPolicy"]
        if exit_ is None or self.delay_s == 0:
            return ("", "")
        ended_well = exit_.code == 0 and not self.restarts
        if policy == NEVER or (ended_well and (self.is_init or policy == ON_FAILURE)):
            return ("", "")
        key = key_of(pod)
        return (
            "CrashLoopBackOff",
            f"back-off {self.delay_s:.0f}s restarting failed container={self.name} "
            f"pod={key.name}_{key.namespace}({uid_of(pod)})",
        )

    def view(self, waiting: tuple[str, str]) -> ContainerView:
        """For the status; `waiting` as the method of that name has it."""
        return ContainerView(
            self.name,
            self.is_init,
            str(self.spec.get("image", "")),
            current=self.current,
            previous=self.previous,
            waiting=waiting,
            image_id=self.pull.image.name if self.pull.image else "",
            has_started=self.health.is_started,
            serves=self.health.is_ready,
        )


def waiting_of(state: ContainerState, states: Sequence[ContainerState], pod: Manifest) -> tuple[str, str]:
    """As `ContainerState.waiting`, with regard to the init containers before it."""
    reason, message = state.waiting(pod)
    inits_left = any(each.is_init and not each.observed().succeeded for each in states)
    waits_for_them = reason == "ContainerCreating" and not state.is_init and inits_left
    return ("PodInitializing" if waits_for_them else reason, message)


def container_states(pod: Manifest) -> list[ContainerState]:
    """Init containers first, each kind in the order of the spec."""
    spec: dict[str, Any] = pod["spec"]
    init = [ContainerState(container, True) for container in spec.get("initContainers") or ()]
    return init + [ContainerState(container, False) for container in spec["containers"]]


def _started_at(path: Path) -> datetime:
    return (journals.read(path / journals.JOURNAL) or journals.Journal()).started_at


def _last_run(pod: Manifest, container: str) -> ContainerRun | None:
    """The last start of a container that its status knows of; None when it was never started."""
    recorded = next((one for one in container_statuses(pod, init=True) if one["name"] == container), None)
    if recorded is None:
        return None
    state, attempt = recorded.get("state") or {}, int(recorded.get("restartCount") or 0)
    if "running" in state:
        return ContainerRun(attempt, _moment(pod, state["running"], "startedAt"))
    # While it waits for its next start, the end of the last is told beside it.
    ended = state.get("terminated") or (recorded.get("lastState") or {}).get("terminated")
    if not ended:
        return None
    return ContainerRun(attempt, _moment(pod, ended, "startedAt"), _exit(pod, ended))


def _lost(run: ContainerRun, now: datetime) -> ContainerRun:
    """The same start once nothing of it can be found: its end is unknown, unless it was told."""
    if run.exit is not None:
        return run
    message = "The container could not be located when the kubelet came back: the pod's folder was lost"
    return replace(run, exit=Exit(_LOST_CODE, ExitReason.UNKNOWN, now, message))


def _exit(pod: Manifest, ended: Mapping[str, Any]) -> Exit:
    known = ended.get("reason") in list(ExitReason)
    reason = ExitReason(ended["reason"]) if known else ExitReason.UNKNOWN
    finished_at = _moment(pod, ended, "finishedAt")
    return Exit(int(ended.get("exitCode") or 0), reason, finished_at, str(ended.get("message") or ""))


def _moment(pod: Manifest, recorded: Mapping[str, Any] | None, field: str) -> datetime:
    """Its own time, else the pod's: anybody who may write the status may leave it out."""
    text = (
        (recorded or {}).get(field) or pod["status"].get("startTime") or pod["metadata"]["creationTimestamp"]
    )
    return parse_time(str(text))
