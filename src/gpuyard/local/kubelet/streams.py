"""Commands in running containers, and connections to them, for the API."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import signal
from contextlib import suppress
from pathlib import Path

from gpuyard import errors
from gpuyard.kube.objects import Manifest, uid_of
from gpuyard.kube.pods import container_statuses
from gpuyard.local.kubelet.pod_folders import PodFolder, pod_folders
from gpuyard.local.kubelet.tcp_listeners import loopback_listeners
from gpuyard.local.objects.pod_streams import AttachedInput, ContainerStreams, StreamOptions
from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.exec_process import ExecProcess
from gpuyard.local.runtime.journal import Journal
from gpuyard.local.runtime.members import patiently, send
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.runtime.standard_input.container_input import ContainerInput
from gpuyard.local.runtime.values import ENV_EXEC

_CONNECT_S = 5.0
#: Begins the name of a file beside a start's journal, which is there while a command is open in it.
_NOTE = "exec-"


class KubeletStreams:
    """Implements `local.objects.pod_streams.PodStreams` over the pods' folders."""

    def __init__(self, pods_dir: Path, runtimes: Runtimes) -> None:
        self._pods_dir = pods_dir
        self._runtimes = runtimes
        #: Says which daemon has started something.
        self._own = secrets.token_hex(4)
        self._numbers = itertools.count()

    async def end_former(self) -> None:
        """Ends what was still open when a former daemon was killed: nobody hears it any more.

        What a command had left on purpose, before it ended, goes on to the run's own end.
        """
        notes = await asyncio.to_thread(self._former_notes)
        if notes:
            send(await patiently(lambda: _with_marks(set(notes))), signal.SIGKILL)
        for note in notes.values():
            with suppress(OSError):
                note.unlink()

    def _former_notes(self) -> dict[str, Path]:
        """Of former daemons, by the mark of the command that each is about."""
        return {
            f"{folder.start_name(container, attempt)}/{note.name.removeprefix(_NOTE)}": note
            for folder in pod_folders(self._pods_dir).values()
            for container in folder.containers()
            for attempt in folder.attempts(container)
            for note in folder.attempt(container, attempt).glob(f"{_NOTE}*")
            if not note.name.startswith(f"{_NOTE}{self._own}-")
        }

    async def exec(
        self, pod: Manifest, container: str, command: list[str], options: StreamOptions
    ) -> ContainerStreams:
        """See `PodStreams.exec`."""
        folder, name = self._running(pod, container)
        try:
            return await self.exec_in(folder, name, command, options)
        except errors.BadRequest as error:
            raise errors.BadRequest(f"{_named(pod, container)}: {error.message}") from error

    async def exec_in(
        self, folder: Path, name: str, command: list[str], options: StreamOptions
    ) -> ExecProcess:
        """As `exec`, in the start of this folder and name.

        Raises:
            BadRequest: it has ended.
            InternalError: the command can't be started.
        """
        own = f"{self._own}-{next(self._numbers)}"
        entry = await self._runtimes.enter(folder, command, tty=options.tty, mark=f"{name}/{own}")
        return ExecProcess.start(
            entry,
            stdin=options.stdin,
            stdout=options.stdout,
            stderr=options.stderr,
            tty=options.tty,
            note=folder / f"{_NOTE}{own}",
        )

    async def attach(self, pod: Manifest, container: str, options: StreamOptions) -> AttachedInput:
        """See `PodStreams.attach`."""
        folder, _ = self._running(pod, container)
        made = _made(pod, container)
        stdin, tty = options.stdin and bool(made.get("stdin")), bool(made.get("tty"))
        # Who only looks on mustn't take an input that is for one client.
        return (
            await ContainerInput.open(folder, stdin=stdin)
            if stdin or tty
            else ContainerInput(None, stdin=False)
        )

    async def connect(self, pod: Manifest, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """See `PodStreams.connect`. Pods share the network of the machine: others listen there, too.

        One of them may be the client's own, to whom the connection would come back for ever.
        """
        name = pod["metadata"]["name"]
        starts = await patiently(lambda: self._alive(pod))
        # The port of one that has ended may be another's by now.
        if not starts:
            raise errors.BadRequest(f"error forwarding port {port} to pod {name}: it has ended")
        for address in await patiently(lambda: self._own_addresses(starts, port)):
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_S):
                    return await asyncio.open_connection(address, port)
        raise errors.InternalError(
            f"error forwarding port {port} to pod {name}: connection refused: nothing listens on port {port}"
        )

    def _own_addresses(self, starts: list[Journal], port: int) -> list[str]:
        """The loopback addresses where processes of these starts, and no others, listen on a port."""
        found = []
        for address, sockets in loopback_listeners(port).items():
            left = set(sockets)
            for start in starts:
                left -= self._runtimes.held(start, left)
            if not left:
                found.append(address)
        return found

    def _alive(self, pod: Manifest) -> list[Journal]:
        """The starts of the pod's containers that go on."""
        folder = PodFolder(self._pods_dir / uid_of(pod))
        last = (
            journals.read(folder.attempt(container, attempt) / journals.JOURNAL)
            for container in folder.containers()
            for attempt in folder.attempts(container)[-1:]
        )
        return [one for one in last if one is not None and one.exit is None and one.exit_code is None]

    def _running(self, pod: Manifest, container: str) -> tuple[Path, str]:
        """The folder and the name of the start that runs."""
        folder = PodFolder(self._pods_dir / uid_of(pod))
        attempts = folder.attempts(container)
        state = _state(pod, container)
        if not attempts or "terminated" in state or pod["status"].get("phase") in ("Succeeded", "Failed"):
            raise errors.BadRequest(_not_running(pod, container))
        return folder.attempt(container, attempts[-1]), folder.start_name(container, attempts[-1])


def _with_marks(marks: set[str]) -> set[int]:
    return {pid for pid in procfs.all_processes() if procfs.environment_value(pid, ENV_EXEC) in marks}


def _named(pod: Manifest, container: str) -> str:
    return f'container "{container}" in pod "{pod["metadata"]["name"]}"'


def _made(pod: Manifest, container: str) -> Manifest:
    spec = pod["spec"]
    return next(
        c for c in (*spec["containers"], *(spec.get("initContainers") or ())) if c["name"] == container
    )


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
