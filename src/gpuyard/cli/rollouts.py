"""A service's start or update on the screen, to the moment when all replicas are ready."""

from __future__ import annotations

from contextlib import aclosing

import click

from gpuyard.cli.output.results import StatusLine, print_wrapped
from gpuyard.runs.services.rollout import ServiceRollout
from gpuyard.runs.services.rollout_watch import follow_rollout
from gpuyard.runs.target import Target


async def follow_to_ready(target: Target, name: str) -> int:
    """Says how far it is until it is through; returns the exit code, 1 where it can't become ready."""
    line = StatusLine()
    try:
        async with aclosing(follow_rollout(target, name)) as rollouts:
            async for rollout in rollouts:
                if rollout.is_seen:
                    line.show(f"{name}: {rollout.text}")
    finally:
        line.clear()
    if rollout.is_done:
        click.echo(f"{name}: {rollout.text}.", err=True)
        return 0
    print_wrapped("\n".join(await _failure(target, rollout)), err=True)
    return 1


async def _failure(target: Target, rollout: ServiceRollout) -> list[str]:
    from gpuyard.runs.services.explaining import explain_service
    from gpuyard.runs.services.service import find_service

    how = "keeps ending" if rollout.is_hopeless else "doesn't become ready"
    lines = [f"{rollout.name}: {rollout.text}, and a replica {how}."]
    if service := await find_service(target, rollout.name):
        answer = await explain_service(target, service)
        if answer.refused:
            lines.append(f"  {answer.refused}")
        elif answer.unready:
            lines += [f"  {line}" for line in answer.unready.lines()]
            if (last := answer.unready.last_line) and not any(last in line for line in lines):
                lines.append(f"  its last line: {last}")
    if rollout.old:
        lines += [
            f"The update has stopped, and the earlier replicas go on serving ({rollout.old_ready} ready).",
            f"Go back: {target.command('rollback', rollout.name)}",
        ]
    return [*lines, f"More: {target.command('explain', rollout.name)}"]
