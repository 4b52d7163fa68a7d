"""What the shell's completion offers: in a process that does nothing else, silently and within a second."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gpuyard import errors

if TYPE_CHECKING:
    from gpuyard.runs.target import Target

_LIMIT_S = 1.0
_CLEAN_UP_S = 0.1


def contexts() -> list[str]:
    """The contexts of the user's kubeconfig; none when it can't be read."""
    from gpuyard.client.connection.kubeconfig import context_names, kubeconfig_files

    _be_silent()
    return _found(lambda: context_names(kubeconfig_files(os.environ)))


def run_names(context: str | None, namespace: str | None) -> list[str]:
    """The runs and services at the target; none when it doesn't answer. Never starts a yard."""
    from gpuyard.cli.call import call
    from gpuyard.kube.objects import JOBS, labels_of
    from gpuyard.kube.wellknown import LABEL_RUN
    from gpuyard.runs.run import deployments_of_services

    async def work(target: Target) -> list[str]:
        jobs = await target.api.list(JOBS, target.namespace, label_selector=LABEL_RUN)
        deployments = await deployments_of_services(target)
        return [labels_of(one)[LABEL_RUN] for one in (*jobs.items, *deployments)]

    _be_silent()
    with _limit():
        return _found(lambda: call(work, context=context, namespace=namespace))


def claim_names(context: str | None, namespace: str | None) -> list[str]:
    """The claims at the target; none when it doesn't answer. Never starts a yard."""
    from gpuyard.cli.call import call
    from gpuyard.kube.objects import PERSISTENT_VOLUME_CLAIMS, key_of

    async def work(target: Target) -> list[str]:
        listed = await target.api.list(PERSISTENT_VOLUME_CLAIMS, target.namespace)
        return [key_of(claim).name for claim in listed.items]

    _be_silent()
    with _limit():
        return _found(lambda: call(work, context=context, namespace=namespace))


def node_names(context: str | None) -> list[str]:
    """The nodes at the target; none when it doesn't answer, or the user may not list them."""
    from gpuyard.cli.call import call
    from gpuyard.kube.objects import NODES

    async def work(target: Target) -> list[str]:
        return [node["metadata"]["name"] for node in (await target.api.list(NODES)).items]

    _be_silent()
    with _limit():
        return _found(lambda: call(work, context=context))


def files_in(workdir: str, beginning: str) -> list[str]:
    """Paths below a folder that begin so, folders with a slash; none when it can't be read."""
    parent, slash, _ = beginning.rpartition("/")
    folder = Path(workdir).expanduser() / (parent + slash)
    paths = _found(lambda: sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir()))
    return [path for name in paths if (path := parent + slash + name).startswith(beginning)]


def _found(look: Callable[[], list[str]]) -> list[str]:
    try:
        return look()
    except (errors.GpuyardError, OSError):
        return []


def _be_silent() -> None:
    """Standard error goes nowhere from here on: it would land in the line that is being typed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


@contextmanager
def _limit() -> Iterator[None]:
    """Gives up after a second: ends credential plugins, and then the process.

    A time limit of asyncio wouldn't do: plugins block it, and it waits for a look-up of a host's name.
    """
    alarms = itertools.count()

    def give_up(number: int, frame: object) -> None:
        if next(alarms):
            os._exit(0)
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, _LIMIT_S, _CLEAN_UP_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
