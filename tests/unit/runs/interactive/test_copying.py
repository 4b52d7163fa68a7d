"""Copies out of a pod whose tar is scripted: what of them gets its name here."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection

from gpuyard import errors
from gpuyard.client.streams.remote_command import V5
from gpuyard.runs.interactive.copying import CopyResult, copy_from
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
