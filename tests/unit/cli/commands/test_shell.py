"""The end of a shell's run."""

from __future__ import annotations

import asyncio
import os
import signal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gpuyard.cli.commands import shell


@pytest.fixture
def happened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a terminal that is closed does: signals while the shell is open, and while its run is stopped."""
    happened: list[str] = []

    async def submit(*asked: object, **more: object) -> None:
        happened.append("submitted")

    async def wait_and_open(*asked: object) -> int:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.Event().wait()
        return 0

    async def stop_run(*asked: object, shell_exit: int | None) -> None:
        assert shell_exit is None  # nobody left it
        handled = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, handled.set)
        # Handled one after another: the last says that those before it were.
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        await handled.wait()
        await asyncio.sleep(0)
        happened.append("stopped")

    monkeypatch.setattr("gpuyard.runs.submitting.submit.submit", submit)
    monkeypatch.setattr("gpuyard.runs.stopping.stop_run", stop_run)
    monkeypatch.setattr(shell, "_wait_and_open", wait_and_open)
    return happened


async def test_a_terminal_that_closes_ends_the_run(happened: list[str]) -> None:
    run: Any = SimpleNamespace(name="a", spec=SimpleNamespace(idle=None))
    with pytest.raises(asyncio.CancelledError):
        await shell._serve(cast("Any", SimpleNamespace(is_yard=True)), run, {})
    assert happened == ["submitted", "stopped"]
