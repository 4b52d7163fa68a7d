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
        if deaf := await _why_deaf(target, name):
            print_wrapped(f"But nobody listens at its address: {deaf}", err=True)
            return 1
        return 0
    print_wrapped("\n".join(await _failure(target, rollout)), err=True)
    return 1


async def _why_deaf(target: Target, name: str) -> str:
    from gpuyard.runs.services.explaining import why_deaf
    from gpuyard.runs.services.service import find_service

    service = await find_service(target, name) if target.is_yard else None
    return await why_deaf(target, service) if service else ""


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
    if rollout.old_ready:
        ready = f"({rollout.old_ready} ready)"
        lines.append(f"The update makes no progress, and the earlier replicas go on serving {ready}.")
    elif rollout.has_earlier:
        lines.append("None of the earlier replicas is left: nobody serves now.")
    if rollout.has_earlier:
        lines.append(f"Go back: {target.command('rollback', rollout.name)}")
    return [*lines, f"More: {target.command('explain', rollout.name)}"]
