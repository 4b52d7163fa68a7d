"""One command's work on its target, from the start of a loop to its end."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from gpuyard import errors
from gpuyard.cli.output.notices import print_notice
from gpuyard.local.disk import disk_warning
from gpuyard.local.paths import find_paths
from gpuyard.runs.notices import Notice
from gpuyard.runs.target import Target, goes_to_yard, open_target

if TYPE_CHECKING:
    from gpuyard.client.rest import RestApi

Result = TypeVar("Result")


def call(
    work: Callable[[Target], Awaitable[Result]], *, context: str | None = None, namespace: str | None = None
) -> Result:
    """Opens the target, runs `work` on it to the end, closes it.

    Raises:
        YardStopped: the command goes to the yard and it isn't running.
        VersionMismatch: the yard was started by another release.
    """
    return asyncio.run(_call(work, context, namespace))


def call_cluster(work: Callable[[RestApi], Awaitable[Result]], context: str | None) -> Result:
    """Runs `work` on the cluster that the context, or `gpuyard use`, names.

    Raises:
        UsageError: that is this machine's yard.
        Forbidden: with the role that would allow it.
    """

    async def on_cluster(target: Target) -> Result:
        return await work(target.api)

    _refuse_yard(context)
    try:
        return call(on_cluster, context=context)
    except errors.Forbidden as error:
        error.remedy = "installing needs the rights of cluster-admin: use a context that has them"
        raise


def _refuse_yard(context: str | None) -> None:
    """Raises UsageError when commands go to the yard."""
    if goes_to_yard(context):
        raise errors.UsageError(
            "this is about a cluster: the yard of this machine has its agent already",
            remedy="name a context of your kubeconfig with --context, or choose one with `gpuyard use`",
        )


async def _call(
    work: Callable[[Target], Awaitable[Result]], context: str | None, namespace: str | None
) -> Result:
    # What a library logs isn't for the user: commands say themselves what matters, once and in their words.
    logging.getLogger("gpuyard").addHandler(logging.NullHandler())
    async with open_target(context, namespace, print_notice) as target:
        if target.is_yard and (text := disk_warning(find_paths(os.environ).data_dir)):
            print_notice(Notice(text))
        try:
            return await work(target)
        finally:
            await _settle()


async def _settle() -> None:
    """Ends what still asks the API: of several questions at once one may have failed, and ended the work."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in others:
            task.cancel()
        await asyncio.wait(others)
