from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.local.runtime import exec_process, procfs
from gpuyard.local.runtime.exec_process import ContainerEntry, ExecProcess
from gpuyard.local.runtime.values import ENV_EXEC
from tests.waiting import until_async


@pytest.mark.parametrize("tty", [False, True])
async def test_what_cannot_be_watched_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tty: bool
) -> None:
    def refuse(*asked: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    entry = ContainerEntry(["sleep", "600"], dict(os.environ), tmp_path, str(tmp_path))
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(errors.InternalError, match="Too many open files"):
        ExecProcess.start(entry, stdin=True, stdout=True, stderr=not tty, tty=tty, note=tmp_path / "note")
    assert set(os.listdir("/proc/self/fd")) == before
    marked = procfs.with_environment(f"{ENV_EXEC}={entry.mark}", procfs.all_processes())
    assert not marked and not list(tmp_path.iterdir())


# The shell ends by the SIGHUP, what it started ignores that.
_LEAVES_TWO = """trap "" HUP
sleep 600 & one=$!
setsid sleep 600 & two=$!
trap - HUP
echo $$ $one $two end >"$1"
wait
"""


@pytest.mark.parametrize("session", [(), ("setsid", "--ctty", "--wait", "--")], ids=["pipes", "tty"])
@pytest.mark.parametrize(
    "script", [_LEAVES_TWO, "trap '' HUP; echo $$ end >$1; sleep 600; wait"], ids=["leaves-two", "stays"]
)
async def test_who_cleared_its_environment_ends_when_its_client_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: tuple[str, ...], script: str
) -> None:
    monkeypatch.setattr(exec_process, "_GRACE_S", 0.1)
    told = tmp_path / "told"
    argv = [*session, "env", "-i", "sh", "-c", script, "sh", str(told)]
    entry = ContainerEntry(argv, dict(os.environ), tmp_path, str(tmp_path))
    process = ExecProcess.start(
        entry, stdin=False, stdout=True, stderr=not session, tty=bool(session), note=tmp_path / "note"
    )
    await until_async(told.exists, "it started", bool)
    words = (await until_async(told.read_text, "all is started", lambda text: "end" in text)).split()
    async with asyncio.timeout(60):
        await process.close()
    assert not {int(word) for word in words[:-1]} & set(procfs.all_processes())
    assert not (tmp_path / "note").exists()
