"""Stopping a command in an image, where it is process 1: signals that it doesn't handle don't reach it."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.podman.host import Podman
from gpuyard.local.runtime.values import ContainerSpec, ExitReason, ImageRun
from tests.containers.conftest import ImageHost, Tiny
from tests.waiting import until_async

#: None of these tests waits so long.
_LONG_S = 3600.0
_SAVES = "trap 'echo saving; sleep 0.1; echo saved; exit 0' TERM; echo up; while :; do sleep 0.05; done"

Start = Callable[..., Awaitable[Container]]


@pytest.fixture
async def start(host: ImageHost, tiny: Tiny, podman: Podman) -> AsyncIterator[Start]:
    started: list[Container] = []

    async def start_one(script: str) -> Container:
        """Runs it by sh as process 1, and waits until it has printed something."""
        image = await podman.pull(tiny.reference, plain_http=True)
        # Podman's names are the machine's: other tests run beside this one.
        name = f"stopping-{uuid.uuid4().hex}"
        folder = host.paths.pods_dir / "stopping" / name / "0"
        folder.mkdir(parents=True)
        spec = ContainerSpec(name, (script,), {}, "", image=ImageRun(image.id))
        container = await host.runtime.start(folder, spec)
        started.append(container)
        await until_async(container.log_path.read_bytes, f"{name} prints", timeout_s=60)
        return container

    yield start_one
    for container in started:
        await container.stop(0)


async def _stopped(container: Container, by: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
    waiting = asyncio.create_task(container.wait(), name="wait")
    await container.stop(_LONG_S, by)
    exit_ = await waiting
    assert exit_.reason in (ExitReason.ERROR, ExitReason.COMPLETED)
    return exit_.code, container.log_path.read_text()


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
async def test_a_command_without_handlers_ends_as_any_process_would(start: Start, by: signal.Signals) -> None:
    container = await start("echo up; while :; do sleep 0.05; done")
    assert await _stopped(container, by) == (128 + by, "up\n")


async def test_a_handler_chooses_the_code(start: Start) -> None:
    container = await start(_SAVES.replace("exit 0", "exit 5"))
    assert await _stopped(container) == (5, "up\nsaving\nsaved\n")


async def test_a_pipeline_saves_before_its_reader_ends(start: Start) -> None:
    container = await start(f"({_SAVES}) | cat; echo never")
    code, log = await _stopped(container)
    # The shell may say that the `sleep` of its loop was terminated.
    assert (code, log.replace("Terminated\n", "")) == (128 + signal.SIGTERM, "up\nsaving\nsaved\n")


async def test_what_outlasts_the_grace_is_killed(start: Start) -> None:
    container = await start("(trap '' TERM; echo up; while :; do sleep 0.05; done) | cat")
    waiting = asyncio.create_task(container.wait(), name="wait")
    await container.stop(0.5)
    assert (await waiting).code == 128 + signal.SIGKILL


async def test_a_signal_that_is_ignored_stays_ignored(start: Start) -> None:
    container = await start("trap '' TERM; echo up; while :; do sleep 0.05; done")
    waiting = asyncio.create_task(container.wait(), name="wait")
    await container.stop(0.5)
    assert (await waiting).code == 128 + signal.SIGKILL
