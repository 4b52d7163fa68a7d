from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gpuyard.atomic_files import PREFIX, sweep, temporary_folder, unfinished_file, unfinished_folder
from tests.unit.images.conftest import MakeWheel, Workshop, make_wheel, workshop

__all__ = ["make_wheel", "workshop"]


def leftovers(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(f"{PREFIX}*"))


def test_it_is_gone_unless_it_was_renamed(tmp_path: Path) -> None:
    with unfinished_file(tmp_path) as file:
        file.write(b"x")
    with unfinished_folder(tmp_path) as folder:
        (folder / "a").write_text("")
    assert list(tmp_path.iterdir()) == []
    with unfinished_file(tmp_path) as file:
        file.write(b"x")
        file.flush()
        Path(file.name).rename(tmp_path / "whole")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"x"]


def test_what_somebody_writes_is_not_swept(tmp_path: Path) -> None:
    with unfinished_file(tmp_path) as file, unfinished_folder(tmp_path) as folder:
        sweep(tmp_path)
        assert Path(file.name).exists() and folder.exists()


def test_what_nobody_writes_is(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}file").write_text("")
    (tmp_path / f"{PREFIX}folder" / "blobs").mkdir(parents=True)
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "mine")
    (tmp_path / "mine").write_text("")
    os.mkfifo(tmp_path / f"{PREFIX}fifo")
    sweep(tmp_path)
    # A link is none of ours, and what it leads to even less.
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PREFIX}link", "mine"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    sweep(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


@asynccontextmanager
async def stalling(reached: asyncio.Event) -> AsyncIterator[str]:
    """A server of files that never come to their end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 300_000)
        await writer.drain()
        reached.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_killed_build_s_leftovers_go_with_the_next_and_into_no_image(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    """The archive is written beside the code, where the next build looks for files."""
    lock, reached = workshop.app / "pylock.toml", asyncio.Event()
    archive = f"oci-archive:{workshop.app / 'train.tar'}:v1"
    demo = make_wheel("demo")
    environ = {"GPUYARD_HOME": str(workshop.folder), "PYTHONPATH": os.pathsep.join(sys.path)}

    def write_lock(url: str) -> None:
        sha256 = hashlib.sha256(demo.read_bytes()).hexdigest()
        size = demo.stat().st_size
        wheel = f'{{ url = "{url}/{demo.name}", size = {size}, hashes = {{ sha256 = "{sha256}" }} }}'
        package = f'[[packages]]\nname = "demo"\nversion = "1.0"\nwheels = [{wheel}]\n'
        lock.write_text(f'lock-version = "1.0"\ncreated-by = "me"\n{package}')

    async with stalling(reached) as url:
        write_lock(url)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gpuyard", "build", "--base", workshop.base, "-t", archive,
            "--requirements", lock,
            cwd=workshop.app,
            env=workshop.environ | environ,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(60):
            await reached.wait()
        # Another build leaves alone what this one is writing.
        await workshop.build()
        alive = leftovers(workshop.folder)
        assert len([name for name in alive if name.startswith("cache/wheels/")]) == 1, alive
        (folder,) = (name for name in alive if name.startswith("app/"))
        process.send_signal(signal.SIGKILL)
        _, said = await process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    assert leftovers(workshop.folder) == alive

    assert (workshop.folder / folder / "blobs").is_dir()
    write_lock(demo.parent.as_uri())
    await workshop.build(requirements=lock, target=archive)
    assert leftovers(workshop.folder) == []
    packed = await workshop.layer(-1, archive)
    assert not [name for name in packed if PREFIX in name]
    assert {"workspace/train.py", "workspace/pylock.toml"} <= packed.keys()
    assert json.loads((workshop.folder / "base/index.json").read_text())


@pytest.mark.parametrize("name", [f"{PREFIX}abc", f"{PREFIX}abc/oci-layout", f"sub/{PREFIX}x"])
async def test_unfinished_files_of_another_build_stay_out(workshop: Workshop, name: str) -> None:
    (workshop.app / name).parent.mkdir(exist_ok=True)
    with (workshop.app / name).open("wb"):
        first = await workshop.build()
    assert not [path for path in await workshop.layer(-1) if PREFIX in path]
    assert first.digest


def test_a_temporary_folder_of_a_killed_program_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = (
        "from gpuyard.atomic_files import temporary_folder\n"
        "with temporary_folder() as made:\n    (made / 'file').write_text('')\n    print(made, flush=True)\n"
        "    input()\n"
    )
    environ = {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environ, stdin=-1, stdout=-1, text=True
    ) as other:
        assert other.stdout is not None
        lives = Path(other.stdout.readline().strip())
        with temporary_folder() as mine:
            assert set(tmp_path.iterdir()) == {lives, mine}
        assert set(tmp_path.iterdir()) == {lives}
        other.kill()
    with temporary_folder() as mine:
        assert set(tmp_path.iterdir()) == {mine}
    assert set(tmp_path.iterdir()) == set()
