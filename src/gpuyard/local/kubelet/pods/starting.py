"""Everything up to the start of one pod's containers: its volumes, their images, the starts themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from gpuyard import errors
from gpuyard.kube.objects import Manifest, uid_of
from gpuyard.kube.wellknown import RUNTIME_CLASS_PROCESS
from gpuyard.local.kubelet.containers import start_container
from gpuyard.local.kubelet.context import KubeletContext
from gpuyard.local.kubelet.pod_folders import PodFolder, VolumeFile
from gpuyard.local.kubelet.pods.container_states import ContainerState
from gpuyard.local.kubelet.pods.reservation import Reservation
from gpuyard.local.kubelet.volumes import pod_files, set_up_volumes
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.values import Exit, ExitReason

#: A start that waits for something else than a moment.
NOT_BY_TIME_S = 86_400.0


class Tell(Protocol):
    """Tells of the pod as an event."""

    def __call__(self, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """The event's type, reason and message."""
        ...


class ContainerStarter:
    """Starts the containers of one pod, whose worker calls it one step after another."""

    def __init__(
        self,
        context: KubeletContext,
        folder: PodFolder,
        reservation: Reservation,
        group: asyncio.TaskGroup,
        tell: Tell,
        wake: Callable[[], None],
    ) -> None:
        """Makes it.

        Args:
            context: of the kubelet.
            folder: of the pod.
            reservation: what the pod holds.
            group: of the pod's tasks.
            tell: for events of the pod.
            wake: calls for the next step.
        """
        self._context = context
        self._folder = folder
        self._reservation = reservation
        self._group = group
        self._tell = tell
        self._wake = wake
        #: Folders of its volumes elsewhere; None as long as its volumes aren't set up.
        self._elsewhere: Mapping[str, Path] | None = None
        #: Files with what is written on the pod, as they were last written.
        self._files: Mapping[str, Sequence[VolumeFile]] = {}

    async def mount(self, pod: Manifest, due: Sequence[ContainerState]) -> bool:
        """Sets the pod's volumes up before anything of it starts; False when these starts have to wait."""
        if self._elsewhere is not None:
            return True
        try:
            self._elsewhere = await set_up_volumes(self._context, pod, self._folder)
        except errors.MountError as error:
            self._tell("Warning", "FailedMount", error.message)
            # On a full disk there may be no room for an event.
            unwritten = error.message if isinstance(error.__cause__, OSError) else ""
            for state in due:
                state.obstacle = ("ContainerCreating", unwritten)
                state.not_before_s = self._context.seconds() + self._context.back_off.obstacle_s
            return False
        return True

    async def rewrite_files(self, pod: Manifest) -> None:
        """Brings what was written on the pod meanwhile into the files of a pod that has started."""
        before, self._files = self._files, pod_files(pod)
        for name, files in self._files.items():
            for file in set(files).difference(before.get(name, ())):
                await asyncio.to_thread(self._folder.replace_file, name, file)

    async def start(self, pod: Manifest, state: ContainerState) -> Container | Exit | None:
        """Starts a container, or takes the next step to that; an Exit is that of a start that failed."""
        context, attempt, now_s = self._context, state.next_attempt, self._context.seconds()
        if not is_process(pod) and state.pull.is_due:
            self._get_image(uid_of(pod), state)
            return None
        try:
            allocation = await self._reservation.devices_of(state)
            port, image = self._reservation.master_port, state.pull.image
            elsewhere = self._elsewhere or {}
            container = await start_container(
                context, pod, state.spec, attempt, allocation, port, image, elsewhere
            )
        except errors.StartError as error:
            state.begin(None, context.clock(), now_s)
            self._tell("Warning", "Failed", f"Error: {error.message}")
            return Exit(error.code, ExitReason.START_ERROR, context.clock(), error.in_one_line)
        except (errors.ProcessError, errors.DeviceError, errors.ImageError) as error:
            missing = isinstance(error, errors.ContainerConfigError)
            reason = "CreateContainerConfigError" if missing else "CreateContainerError"
            if state.obstacle != (reason, error.message):
                self._tell("Warning", "Failed", f"Error: {error.message}")
            state.obstacle = (reason, error.message)
            state.not_before_s = context.seconds() + context.back_off.obstacle_s
            return None
        state.begin(container, container.started_at, context.seconds())
        self._tell("Normal", "Created", f"Created container: {state.name}")
        self._tell("Normal", "Started", f"Started container {state.name}")
        if attempt >= 2:
            # Its log and that of the run before are kept, as in Kubernetes.
            await asyncio.to_thread(self._folder.remove_attempt, state.name, attempt - 2)
        return container

    def _get_image(self, uid: str, state: ContainerState) -> None:
        """Pulls beside everything else: it may take minutes, and the pod may be deleted meanwhile."""
        now_s = self._context.seconds()
        backed_off = state.pull.backed_off(state.spec["image"], now_s)
        if backed_off is not None:
            state.obstacle, state.not_before_s = backed_off, state.pull.retry_at_s
        elif state.pull.task is None:
            state.obstacle, state.not_before_s = ("ContainerCreating", ""), now_s + NOT_BY_TIME_S
            state.pull.task = self._group.create_task(self._pull(state), name=f"image {uid}/{state.name}")

    async def _pull(self, state: ContainerState) -> None:
        context = self._context
        if failure := await state.get_image(context.images, context.back_off, context.seconds):
            self._tell("Warning", "Failed", failure)
        self._wake()


def is_process(pod: Manifest) -> bool:
    """Whether its containers are processes of the host, without an image."""
    return bool(pod["spec"].get("runtimeClassName") == RUNTIME_CLASS_PROCESS)
