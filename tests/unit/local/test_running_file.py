from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gpuyard.local.running_file import RunningFile
from gpuyard.local.settings import load_running
from tests.waiting import until_async


async def test_a_change_that_can_not_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cleaner of /tmp took the folder as the agent ended: that ends nothing."""
    monkeypatch.setattr("gpuyard.local.running_file._RETRY_S", 0.001)
    path = tmp_path / "run" / "running.json"
    running = RunningFile(path, ["here", "here-2"])
    keeping = asyncio.create_task(running.keep(), name="running file")
    running.note_agent("here", 7)
    running.note_agent("here-2", 8)
    await until_async(lambda: caplog.records, "the failure is logged")
    assert not keeping.done()
    path.parent.mkdir()
    found = await until_async(lambda: load_running(path), "the file is written")
    assert found and found.agent_pid == 7
    assert found.agents == {"here": 7, "here-2": 8}
    keeping.cancel()
