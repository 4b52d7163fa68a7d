"""What is known of this machine's yard, whether it runs or not."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gpuyard import errors
from gpuyard.client.rest import RestApi
from gpuyard.client.supervision import SET_ASIDE, set_aside_text
from gpuyard.doctor.cluster_facts import or_error
from gpuyard.doctor.progress import Progress
from gpuyard.doctor.registry import RegistryFact, look_at_registry
from gpuyard.kube.objects import EVENTS, NODES, Manifest, ObjectKey
from gpuyard.local.disk import frees_fronts
from gpuyard.local.lifecycle import daemon_pid
from gpuyard.local.paths import YardPaths
from gpuyard.local.settings import RunningYard, Settings, load_running, load_settings
from gpuyard.local.status import check_yard

Result = TypeVar("Result")


@dataclass(frozen=True)
class YardFacts:
    """What was found out; an error in the place of what couldn't be.

    Attributes:
        folder: None when data can be kept there and nobody else reaches the sockets.
        free_bytes: of the file system that the data is on.
        bounds_logs: whether that can free the front of a file, as a log at its bound needs.
        pid: of the daemon; 0 when it doesn't run, an error when it can't answer.
        running: what the daemon said of itself when it was ready.
        api: None when a yard of this release answers.
        node: the yard's own.
        set_aside: objects that a loop or the store set aside, each with the reason.
        health_mistakes: what is wrong in the file that makes simulated GPUs unhealthy.
    """

    paths: YardPaths
    folder: errors.GpuyardError | None
    free_bytes: int
    settings: Settings | errors.GpuyardError
    pid: int | errors.GpuyardError
    running: RunningYard | None
    api: errors.GpuyardError | None
    node: Manifest | errors.GpuyardError
    registry: RegistryFact
    set_aside: Sequence[str] | errors.GpuyardError = ()
    health_mistakes: Sequence[str] = ()
    bounds_logs: bool = True


async def look_at_yard(
    paths: YardPaths, asked: RegistryFact, environ: Mapping[str, str], progress: Progress
) -> YardFacts:
    """Looks at everything, starts nothing, and never fails."""
    pid, running = _tried(_pid, paths), load_running(paths.running)
    folder = _folder(paths)
    api = folder or (pid if isinstance(pid, errors.GpuyardError) else None)
    node: Manifest | errors.GpuyardError = errors.YardStopped("the yard is stopped")
    set_aside: Sequence[str] | errors.GpuyardError = ()
    if api is None:
        async with RestApi(unix_socket=paths.api_socket) as rest:
            api = await progress.at("API", or_error(check_yard(rest, paths)))
            if running is not None and not isinstance(api, errors.YardStopped):
                node = await progress.at("node", or_error(rest.get(NODES, running.node)))
                set_aside = await progress.at("events", or_error(_set_aside(rest, running)))
    settings = _tried(lambda paths: load_settings(paths.settings), paths)
    return YardFacts(
        paths=paths,
        folder=folder,
        free_bytes=await asyncio.to_thread(_free, paths.data_dir),
        settings=settings,
        pid=pid,
        running=running,
        api=api,
        node=node,
        set_aside=set_aside,
        bounds_logs=await asyncio.to_thread(frees_fronts, _nearest(paths.data_dir)),
        health_mistakes=_health_mistakes(paths, settings, running),
        registry=await progress.at("registry", look_at_registry(asked, environ)),
    )


def _pid(paths: YardPaths) -> int:
    """Raises YardError for a daemon that nobody need ask, since it stands still."""
    from gpuyard.local.silence import silence_of

    pid = daemon_pid(paths)
    if pid and (silence := silence_of(pid)).is_stopped:
        raise errors.YardError(silence.text, remedy=silence.remedy)
    return pid


async def _set_aside(rest: RestApi, running: RunningYard) -> Sequence[str]:
    """What the store couldn't read at the start, and what loops tripped over since, each once."""
    events = await rest.list(EVENTS, field_selector=f"reason={SET_ASIDE}")
    told = [
        set_aside_text(
            str(about.get("kind", "")),
            ObjectKey(str(about.get("namespace", "")), str(about.get("name", ""))),
            str(event.get("message", "")),
        )
        for event in events.items
        for about in (event.get("involvedObject") or {},)
    ]
    return list(dict.fromkeys([*running.set_aside, *told]))


def _health_mistakes(
    paths: YardPaths, settings: Settings | errors.GpuyardError, running: RunningYard | None
) -> Sequence[str]:
    if running is None or isinstance(settings, errors.GpuyardError) or not settings.simulate:
        return ()
    files = {name: paths.of_node(n).simulated_health for n, name in enumerate(running.agents, 1)}
    if not any(file.exists() for file in files.values()):
        return ()
    # Most have none.
    from gpuyard.devices.simulated.simulation import parse_simulations, simulate
    from gpuyard.devices.simulated.state import read_state

    simulations = parse_simulations(settings.simulate)
    return [
        mistake if len(files) == 1 else f"{mistake} (node {name})"
        for (name, file), simulation in zip(files.items(), simulations, strict=False)
        if file.exists()
        for mistake in read_state(file, simulate(simulation, seed=name))[1]
    ]


def _folder(paths: YardPaths) -> errors.GpuyardError | None:
    if error := _tried(YardPaths.check_runtime_dir, paths):
        return error
    there = _nearest(paths.data_dir)
    if os.access(there, os.W_OK | os.X_OK):
        return None
    return errors.StoreUnwritable(
        f"can't write in {there}", remedy="set GPUYARD_HOME to a folder that you may write"
    )


def _tried(look: Callable[[YardPaths], Result], paths: YardPaths) -> Result | errors.GpuyardError:
    try:
        return look(paths)
    except errors.GpuyardError as error:
        return error


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(_nearest(folder)).free
    except OSError:
        return 0


def _nearest(folder: Path) -> Path:
    """The folder itself, or what is there of its path."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
