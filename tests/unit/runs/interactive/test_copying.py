"""Copies out of a pod whose tar is scripted, and into one that is here: what of them gets its name."""

from __future__ import annotations

import asyncio
import json
import os
import tarfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection

from gpuyard import errors
from gpuyard.client.streams.remote_command import V5
from gpuyard.runs.interactive.copying import CopyResult, copy_from, copy_to
from gpuyard.runs.interactive.live_pod import LivePod
from gpuyard.runs.target import Target
from tests.unit.client.streams.conftest import serving
from tests.unit.runs.interactive.test_tar_reader import ROOT, Member, archive, member

CAUSE = {"reason": "ExitCode", "message": "1"}
CHANGED = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [CAUSE]}}
SAID = "tar: ./x: file changed as we read it"


async def copied(local: Path, *members: Member, changed: bool = False) -> CopyResult:
    async def tar(connection: ServerConnection) -> None:
        await connection.send(b"\x01" + archive(*members))
        if changed:
            await connection.send(b"\x02" + SAID.encode() + b"\n")
        await connection.send(b"\x03" + json.dumps(CHANGED if changed else {"status": "Success"}).encode())

    async with serving(tar, V5) as api:
        pod = LivePod(run="train", name="train-0", container="main")
        return await copy_from(Target(api, "n", is_yard=True), pod, "/out/it", local, lambda done, size: None)


async def test_a_file_that_changed_meanwhile_does_not_get_its_name(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"old")
    with pytest.raises(errors.GpuyardError, match="/out/it of train-0 changed while it was copied"):
        await copied(tmp_path, member("./it", b"torn"), changed=True)
    assert (tmp_path / "it").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


async def test_of_a_folder_it_is_said_what_changed_meanwhile(tmp_path: Path) -> None:
    result = await copied(tmp_path, ROOT, member("./x", b"torn"), changed=True)
    assert (result.changed, result.notes) == ((SAID,), ())
    assert (tmp_path / "it/x").read_bytes() == b"torn"


async def test_a_folder_goes_through_a_link_of_its_own_name_and_through_none_below(tmp_path: Path) -> None:
    (tmp_path / "real/elsewhere").mkdir(parents=True)
    (tmp_path / "it").symlink_to("real")
    result = await copied(tmp_path, ROOT, member("./x", b"x"))
    assert (tmp_path / "real/x").read_bytes() == b"x" and (tmp_path / "it").is_symlink()
    assert result.path == str(tmp_path / "real")
    (tmp_path / "real/sub").symlink_to("elsewhere")
    sub = [member("./sub", kind=tarfile.DIRTYPE, mode=0o755), member("./sub/x", b"x")]
    with pytest.raises(errors.UsageError, match="sub is a link here"):
        await copied(tmp_path, ROOT, *sub)
    assert not list((tmp_path / "real/elsewhere").iterdir())


async def _run(connection: ServerConnection) -> None:
    """What is to be run in the pod runs here."""
    assert connection.request is not None
    command = parse_qs(urlsplit(connection.request.path).query)["command"]
    program = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
    assert program.stdin is not None
    async for message in connection:
        assert isinstance(message, bytes)
        if message == b"\xff\0":
            break
        program.stdin.write(message[1:])
        await program.stdin.drain()
    program.stdin.close()
    assert await program.wait() == 0
    await connection.send(b"\x03" + json.dumps({"status": "Success"}).encode())


async def test_what_killed_copies_left_in_a_pod_goes_a_day_later(tmp_path: Path) -> None:
    remote, two_days = tmp_path / "remote", 2 * 86400
    (tmp_path / "kept").mkdir()
    for name in (".gpuyard-new-old", ".gpuyard-new-going", "of-the-user"):
        (remote / name / "it").mkdir(parents=True)
    (remote / ".gpuyard-new-link").symlink_to(tmp_path / "kept")
    for path in (*remote.iterdir(), tmp_path / "kept"):
        if "going" not in path.name:
            then = path.lstat().st_mtime - two_days
            os.utime(path, (then, then), follow_symlinks=False)
    (tmp_path / "x").write_text("x")
    pod = LivePod(run="train", name="train-0", container="main")
    async with serving(_run, V5) as api:
        target = Target(api, "n", is_yard=True)
        await copy_to(target, pod, tmp_path / "x", str(remote), lambda done, size: None)
    assert sorted(path.name for path in remote.iterdir()) == [".gpuyard-new-going", "of-the-user", "x"]
    assert (remote / "x").read_text() == "x" and (tmp_path / "kept").is_dir()


async def test_a_way_up_from_a_link_leads_where_it_does_in_the_pod(tmp_path: Path) -> None:
    (tmp_path / "remote/far/deep").mkdir(parents=True)
    (tmp_path / "remote/link").symlink_to("far/deep")
    (tmp_path / "x").write_text("x")
    pod = LivePod(run="train", name="train-0", container="main")
    async with serving(_run, V5) as api:
        target = Target(api, "n", is_yard=True)
        remote = f"{tmp_path}/remote/link/../new"
        await copy_to(target, pod, tmp_path / "x", remote, lambda done, size: None)
    assert (tmp_path / "remote/far/new").read_text() == "x" and not (tmp_path / "remote/new").exists()
