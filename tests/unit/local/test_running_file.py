from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gpuyard.local.running_file import RunningFile
from gpuyard.local.settings import load_running


async def test_a_change_that_can_not_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cleaner of /tmp took the folder as the agent ended: that ends nothing."""
    monkeypatch.setattr("gpuyard.local.running_file._RETRY_S", 0.001)
    path = tmp_path / "run" / "running.json"
    running = RunningFile(path, "here")
    keeping = asyncio.create_task(running.keep(), name="running file")
    running.note_agent(7)
    async with asyncio.timeout(20):
        while not caplog.records:
            await asyncio.sleep(0.001)
        assert not keeping.done()
        path.parent.mkdir()
        while (found := load_running(path)) is None:
            await asyncio.sleep(0.001)
    assert found.agent_pid == 7
    keeping.cancel()
