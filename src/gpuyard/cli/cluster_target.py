"""Where a command goes that is about clusters only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gpuyard import errors
from gpuyard.cli.call import call
from gpuyard.client.rest import RestApi
from gpuyard.runs.target import Target

Result = TypeVar("Result")


def call_cluster(work: Callable[[RestApi], Awaitable[Result]], context: str | None) -> Result:
    """Runs `work` on the cluster that the context, or `gpuyard use`, names.

    Raises:
        UsageError: that is this machine's yard.
        Forbidden: with the role that would allow it.
    """

    async def on_cluster(target: Target) -> Result:
        return await work(target.api)

    refuse_yard(context)
    try:
        return call(on_cluster, context=context)
    except errors.Forbidden as error:
        error.remedy = "installing needs the rights of cluster-admin: use a context that has them"
        raise


def refuse_yard(context: str | None) -> None:
    """Raises UsageError when commands go to the yard."""
    from gpuyard.runs.target import goes_to_yard

    if goes_to_yard(context):
        raise errors.UsageError(
            "this is about a cluster: the yard of this machine has its agent already",
            remedy="name a context of your kubeconfig with --context, or choose one with `gpuyard use`",
        )
