from __future__ import annotations

import errno
import os
import signal
import subprocess
import uuid
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from gpuyard.local.kubelet.streams import KubeletStreams
from gpuyard.local.objects.pod_streams import StreamOptions
from gpuyard.local.runtime.values import ENV_EXEC

from .conftest import Host


async def test_of_a_former_daemon_only_what_was_still_open_is_ended(tmp_path: Path) -> None:
    uid = str(uuid.uuid4())
    start = tmp_path / uid / "main" / "0"
    start.mkdir(parents=True)
    note = start / "exec-former-0"
    note.touch()
    env = {**os.environ, ENV_EXEC: f"{uid}_main_0/former-"}
    with (
        subprocess.Popen(["sleep", "600"], env={**env, ENV_EXEC: env[ENV_EXEC] + "0"}) as still_open,
        subprocess.Popen(["sleep", "600"], env={**env, ENV_EXEC: env[ENV_EXEC] + "1"}) as left,
    ):
        try:
            await KubeletStreams(tmp_path, AsyncMock()).end_former()
            assert still_open.wait(60) == -signal.SIGKILL
            assert left.poll() is None
            assert not note.exists()
        finally:
            still_open.kill()
            left.kill()


@pytest.mark.parametrize("is_full", [False, True])
async def test_a_command_is_noted_while_it_is_open_and_goes_without_on_a_full_disk(
    host: Host, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    def refuse(path: Path, mode: int = 0) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    async with host.running():
        await host.create("a", "sh", "-c", "echo up; exec sleep 600")
        await host.says("a", "up")
        pod = await host.until("a", lambda pod: pod["status"].get("phase") == "Running")
        assert host.machine is not None
        if is_full:
            monkeypatch.setattr(Path, "touch", refuse)
        options = StreamOptions(stdin=True, stdout=True, stderr=True, tty=False)
        command = await host.machine.streams.exec(pod, "main", ["cat"], options)
        notes = list((host.folder(pod) / "main/0").glob("exec-*"))
        assert len(notes) == (not is_full)
        command.close_stdin()
        assert await command.wait() == 0
        await command.close()
        assert not [note for note in notes if note.exists()]
