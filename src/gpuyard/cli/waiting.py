"""Why a run waits, asked of the API and of `scheduling`: for `explain`, and in one line for a follower."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.cli.output import duration
from gpuyard.cli.runs import Run
from gpuyard.cli.target import Target
from gpuyard.kube.objects import NODES, PODS, Manifest
from gpuyard.workloads.outcome import Reason

if TYPE_CHECKING:
    from gpuyard.scheduling.explain import Explanation


#: What registries and those who ask them say to who isn't known or may not.
_NO_ACCESS = re.compile(r"unauthorized|authorization failed|access denied|no basic auth", re.IGNORECASE)


def pull_lines(target: Target, run: Run) -> list[str]:
    """What lets a run's image be pulled, where a registry wants to know who asks."""
    if run.state.reason != Reason.IMAGE_PULL or not _NO_ACCESS.search(run.state.message):
        return []
    if target.is_yard:
        return ["  podman has no credentials that the registry takes: `podman login` as the yard's user"]
    named = run.job["spec"]["template"]["spec"].get("imagePullSecrets") or ()
    if not named:
        return ["  no Secret is named to pull it with: make one, and run it with --image-pull-secret NAME"]
    names = ", ".join(secret.get("name", "") for secret in named)
    return [f"  pulled with {names}: see that it is there, in this namespace and for this registry"]


async def explain_run(target: Target, run: Run) -> tuple[Explanation, Sequence[Manifest]]:
    """What holds a pending run, and the nodes that were looked at."""
    from gpuyard.scheduling.explain import explain
    from gpuyard.scheduling.requests import PodRequest
    from gpuyard.scheduling.snapshot import Snapshot

    nodes, pods = await asyncio.gather(target.api.list(NODES), target.api.list(PODS))
    snapshot = Snapshot.of(nodes.items, pods.items)
    waiting = [pod for pod in run.pods if not pod["spec"].get("nodeName")]
    request = PodRequest.of(waiting[0]) if waiting else PodRequest.of_template(run.job)
    return explain(request, snapshot), nodes.items


async def unschedulable_text(target: Target, run: Run, *, since: bool) -> str:
    """`NAME: pending: needs 4 GPUs, 2 free on vm; waiting 12s [gpuyard explain NAME]`.

    Args:
        target: where the run is.
        run: an unschedulable one.
        since: say for how long; for a line that is written again and again.
    """
    try:
        why = (await explain_run(target, run))[0].short()
    except errors.GpuyardError:
        # Not everybody may look at nodes and at others' pods.
        why = run.state.message
    began = run.state.submitted_at
    waited = f"; waiting {duration(datetime.now(UTC) - began)}" if since and began else ""
    return f"{run.name}: pending: {why}{waited} [{target.command('explain', run.name)}]"
