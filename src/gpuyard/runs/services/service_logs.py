"""What the replicas of a service print, each line told from the others' by its replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from gpuyard.client.log_place import LogOptions
from gpuyard.runs.following.pod_log import Away, Back, away_text
from gpuyard.runs.following.ranks import OfRank, RankLogs, ReplicaNumbering, read_ranks
from gpuyard.runs.services.service import Service
from gpuyard.runs.services.service_watch import ServiceWatch
from gpuyard.runs.target import Target
from gpuyard.workloads.serving.service_state import Phase


def read_service_logs(target: Target, service: Service, options: LogOptions) -> AsyncGenerator[OfRank, None]:
    """What its replicas have printed so far, in the order of time.

    Raises:
        ApiError, ConnectionFailed: it can't be read.
    """
    return read_ranks(target, service.pods, options, (), ReplicaNumbering())


async def follow_service(
    target: Target, name: str, options: LogOptions
) -> AsyncGenerator[OfRank | Away | Back | Service, None]:
    """What its replicas print, those that come later too; each state of the service, as it begins.

    It ends when the service is stopped and its last replica has ended. Closing the generator ends the
    following; the service goes on.

    Raises:
        GpuyardError: it was removed.
        ConnectionFailed: the API has been away for a minute.
    """
    watch, was_away, told = ServiceWatch(target, name), False, ""
    async with watch.watching(), RankLogs(target, options, (), ReplicaNumbering()) as logs:
        while not watch.is_synced:
            await watch.change()
        changed = asyncio.create_task(watch.change(), name="change of the service")
        try:
            while True:
                if watch.is_away != was_away:
                    was_away = watch.is_away
                    yield Away(away_text(target, name)) if was_away else Back()
                service = watch.service
                logs.update(service.pods)
                for piece in logs.ready():
                    yield piece
                if str(service.state.phase) + service.state.message != told:
                    told = str(service.state.phase) + service.state.message
                    yield service
                if service.state.phase is Phase.STOPPED and not service.alive and logs.is_idle:
                    return
                arrived = asyncio.create_task(logs.next(), name="output of a replica")
                await asyncio.wait({changed, arrived}, return_when=asyncio.FIRST_COMPLETED)
                if arrived.done():
                    yield arrived.result()
                else:
                    arrived.cancel()
                if changed.done():
                    changed.result()
                    changed = asyncio.create_task(watch.change(), name="change of the service")
        finally:
            changed.cancel()
            await asyncio.gather(changed, return_exceptions=True)
