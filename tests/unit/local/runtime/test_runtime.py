from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.process.sandbox import Isolation, no_isolation
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.runtime.values import (
    ENV_CONTAINER,
    ContainerSpec,
    Exit,
    ExitReason,
    HostDevice,
    Mount,
)
from tests.waiting import until_async

Start = Callable[..., Awaitable[Container]]

#: What a process can find out about itself, as one line of JSON.
_LOOK = """
import json, os, sys
mask = os.umask(0)
print(json.dumps({
    "argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ), "umask": mask,
    "fds": {fd: os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")},
    "session_is_own": os.getsid(0) != int(sys.argv[1]), "dev": sorted(os.listdir("/dev")),
    "tmp": sorted(os.listdir("/tmp")), "processes": sum(name.isdigit() for name in os.listdir("/proc")),
    "shm": os.statvfs("/dev/shm").f_frsize * os.statvfs("/dev/shm").f_blocks,
}))
"""


def _spec(folder: Path, *argv: str, **fields: Any) -> ContainerSpec:
    return ContainerSpec(
        **{
            "name": f"test-{os.getpid()}-{folder.name}",
            "argv": argv,
            "env": {"PATH": "/usr/bin:/bin"},
            "working_dir": str(folder),
            **fields,
        }
    )


async def _look(start: Start, **fields: Any) -> dict[str, Any]:
    container = await start("/usr/bin/python3", "-c", _LOOK, str(os.getsid(0)), **fields)
    exit_ = await container.wait()
    assert exit_.code == 0, container.log_path.read_text()
    found: dict[str, Any] = json.loads(container.log_path.read_text())
    return found


@pytest.mark.parametrize("code", [0, 1, 3, 125, 255])
async def test_exit_code_and_output(start: Start, code: int) -> None:
    container = await start("sh", "-c", f"echo out; echo err >&2; exit {code}")
    exit_ = await container.wait()
    assert (exit_.code, exit_.reason) == (code, ExitReason.ERROR if code else ExitReason.COMPLETED)
    assert container.log_path.read_bytes() == b"out\nerr\n"
    assert exit_.finished_at >= container.started_at


async def test_output_is_bytes_and_stays_private(start: Start) -> None:
    container = await start("printf", r"\000\377no newline")
    await container.wait()
    assert container.log_path.read_bytes() == b"\x00\xffno newline"
    assert stat.S_IMODE(container.log_path.stat().st_mode) == 0o600


async def test_a_command_of_odd_words_is_no_shell_text(start: Start) -> None:
    words = ["a b", "$HOME", "`id`", "; exit 9", "'\"", "--", "", "ünï", "\n"]
    found = await _look(start)
    container = await start("/usr/bin/python3", "-c", "import sys; print(sys.argv[1:])", *words)
    assert (await container.wait()).code == 0
    assert container.log_path.read_text().strip() == repr(words)
    assert found["cwd"]


async def test_a_program_called_like_a_shell_builtin_is_the_program(start: Start, folder: Path) -> None:
    (folder / "exit").write_text("#!/bin/sh\necho mine\n")
    (folder / "exit").chmod(0o755)
    container = await start("exit", "7", env={"PATH": f"{folder}:/usr/bin"})
    assert (await container.wait()).code == 0
    assert container.log_path.read_text() == "mine\n"


async def test_environment_is_what_was_given(
    start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "1")
    given = {"PATH": "/usr/bin:/bin", "A": "x y\n=z", "line": "mine", "EMPTY": "", "ENV": "/nowhere"}
    env = (await _look(start, env=given))["env"]
    assert env.pop("PWD") == str(folder)
    assert env.pop(ENV_CONTAINER).startswith("test-")
    env.pop("LC_CTYPE", None)  # Python sets it for itself
    assert env == given


async def test_a_name_that_no_shell_has_is_passed(bubblewrap: Isolation, folder: Path) -> None:
    runtime = Runtimes(bubblewrap, Cgroups(), _now)
    container = await runtime.start(folder / "s", _spec(folder, "/usr/bin/env", env={"my-var.x": "1"}))
    await container.wait()
    assert "my-var.x=1\n" in container.log_path.read_text()


async def test_descriptors_umask_and_session_are_clean(start: Start, folder: Path) -> None:
    with (folder / "leak").open("w") as leak:
        os.set_inheritable(leak.fileno(), True)
        found = await _look(start)
    log_path = found["fds"]["1"]
    assert found["fds"].keys() == {"0", "1", "2", "3"}  # 3 is the folder being listed
    assert found["fds"]["0"] == "/dev/null"
    assert found["fds"]["2"] == log_path
    assert found["umask"] == 0o022
    assert found["session_is_own"]


async def test_arguments_and_working_folder_keep_their_place(start: Start, folder: Path) -> None:
    (folder / "work dir").mkdir()
    container = await start("sh", "-c", "pwd; touch made", working_dir=str(folder / "work dir"))
    assert (await container.wait()).code == 0
    assert container.log_path.read_text() == f"{folder}/work dir\n"
    assert (folder / "work dir/made").exists()


async def test_program_relative_to_the_working_folder(start: Start, folder: Path) -> None:
    (folder / "train.sh").write_text("#!/bin/sh\necho trained\n")
    (folder / "train.sh").chmod(0o755)
    container = await start("./train.sh")
    assert (await container.wait()).code == 0
    assert container.log_path.read_text() == "trained\n"


@pytest.mark.parametrize(
    ("argv", "working_dir", "code", "text"),
    [
        (["no-such-program"], ".", 127, "no-such-program: no such program on PATH"),
        (["./missing.py"], ".", 127, "missing.py: no such program"),
        (["./plain.txt"], ".", 126, "plain.txt can't be executed: no permission"),
        (["./odd.sh"], ".", 127, "asks for the interpreter /no/such/sh"),
        (["."], ".", 127, "no such program on PATH"),
        (["./"], ".", 126, "is a folder"),
        ([""], ".", 127, "the command is empty"),
        (["true"], "gone", 128, "gone isn't there"),
        (["true"], "plain.txt", 128, "plain.txt isn't a folder"),
    ],
)
async def test_what_cannot_start_names_the_thing(
    runtime: Runtimes, folder: Path, argv: list[str], working_dir: str, code: int, text: str
) -> None:
    (folder / "plain.txt").write_text("")
    (folder / "odd.sh").write_text("#!/no/such/sh -e\n")
    (folder / "odd.sh").chmod(0o755)
    spec = _spec(folder, *argv, working_dir=str(folder / working_dir))
    with pytest.raises(errors.StartError) as caught:
        await runtime.start(folder / "s", spec)
    assert caught.value.code == code
    assert text in caught.value.message
    found = await runtime.adopt(folder / "s")
    assert isinstance(found, Exit)
    assert (found.code, found.reason, found.message) == (code, ExitReason.START_ERROR, caught.value.message)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"argv": ["echo", "a\0--bind\0/\0/mnt"]}, "argument 1 has a NUL"),
        ({"env": {"TOKEN": "s3cret\0--setenv\0A\0b"}}, "the value of the variable TOKEN has a NUL"),
        ({"env": {"A\0B": ""}}, "NUL"),
        ({"env": {"A=B": ""}}, "'A=B' can't be passed"),
        ({"env": {"A": "\ud800"}}, "can't be encoded"),
        ({"working_dir": "/tmp\0"}, "the working folder has a NUL"),
        ({"mounts": [Mount(Path("/usr"), "/tmp/a\0b")]}, "the mount path .* has a NUL"),
    ],
)
async def test_text_that_no_process_can_have(
    runtime: Runtimes, folder: Path, fields: dict[str, Any], text: str
) -> None:
    spec = replace(_spec(folder, "true"), **fields)
    with pytest.raises(errors.StartError, match=text) as caught:
        await runtime.start(folder / "s", spec)
    assert "s3cret" not in caught.value.message


async def test_a_name_that_no_shell_has_is_refused_without_isolation(folder: Path) -> None:
    runtime = Runtimes(no_isolation("test"), Cgroups(), _now)
    with pytest.raises(errors.StartError, match=r"'my-var.x' can't be passed"):
        await runtime.start(folder / "s", _spec(folder, "true", env={"my-var.x": "1"}))


async def test_arguments_beyond_the_kernels_limit(runtime: Runtimes, folder: Path) -> None:
    try:
        container = await runtime.start(folder / "s", _spec(folder, "true", "x" * (1 << 18)))
    except errors.StartError as error:
        assert "too long" in error.message
        return
    exit_ = await container.wait()
    assert exit_.reason == ExitReason.START_ERROR


async def test_unwritable_folder_is_a_typed_error(runtime: Runtimes, folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(errors.ProcessError, match="can't make the folder"):
        await runtime.start(folder / "file" / "s", _spec(folder, "true"))


async def test_the_same_start_twice_is_refused(runtime: Runtimes, folder: Path) -> None:
    container = await runtime.start(folder / "s", _spec(folder, "true"))
    with pytest.raises(errors.ProcessError, match="File exists"):
        await runtime.start(folder / "s", _spec(folder, "true"))
    assert (await container.wait()).code == 0


class TestBubblewrap:
    @pytest.fixture
    def runtime(self, bubblewrap: Isolation) -> Runtimes:
        return Runtimes(bubblewrap, Cgroups(), _now)

    async def test_own_dev_tmp_shm_and_processes(self, start: Start, folder: Path) -> None:
        found = await _look(
            start,
            devices=[HostDevice("/dev/null", "/dev/nvidia0"), HostDevice("/dev/zero", "/dev/nvidiactl")],
            shm_bytes=32 << 20,
        )
        usual = {"core", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"}
        assert set(found["dev"]) - usual - {"tty", "urandom", "zero", "console"} == {"nvidia0", "nvidiactl"}
        assert found["tmp"] == [folder.name]
        assert found["shm"] == 32 << 20
        assert found["processes"] == 2

    async def test_its_tmp_is_gone_with_it(self, start: Start) -> None:
        container = await start(
            "sh", "-c", "mkdir -p /tmp/deep/er; echo x >/tmp/deep/er/file; cat /tmp/deep/er/file"
        )
        assert (await container.wait()).code == 0
        assert container.log_path.read_text() == "x\n"
        assert not (container.folder / "tmp").exists()
        assert not Path("/tmp/deep").exists()

    async def test_volume_in_tmp(self, start: Start, folder: Path) -> None:
        (folder / "volume").mkdir()
        mounts = [Mount(folder / "volume", "/tmp/scratch")]
        container = await start("sh", "-c", "echo kept >/tmp/scratch/file", mounts=mounts)
        assert (await container.wait()).code == 0
        assert (folder / "volume/file").read_text() == "kept\n"

    @pytest.mark.parametrize(
        ("fields", "text"),
        [
            ({"devices": [HostDevice("/dev/nvidia77", "/dev/nvidia77")]}, "/dev/nvidia77 isn't there"),
            ({"devices": [HostDevice("/dev/null", "/opt/null")]}, "only under /dev"),
            ({"mounts": [Mount(Path("/usr"), "/usr/no/such/place")]}, "there is no such folder on this host"),
            ({"mounts": [Mount(Path("/usr"), "usr")]}, "isn't absolute"),
        ],
    )
    async def test_what_this_host_cannot_show(
        self, runtime: Runtimes, folder: Path, fields: dict[str, Any], text: str
    ) -> None:
        with pytest.raises(errors.StartError, match=text):
            await runtime.start(folder / "s", _spec(folder, "true", **fields))

    async def test_an_environment_is_not_in_the_arguments(self, start: Start) -> None:
        container = await start(
            "sh", "-c", "echo up; sleep 60", env={"TOKEN": "s3cret", "PATH": "/usr/bin:/bin"}
        )
        await until_async(container.log_path.read_bytes, "it prints")
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                assert b"s3cret" not in line.read_bytes()
            except OSError:
                continue


def test_the_runtime_needs_no_third_party_code() -> None:
    """It is started often and lives in a daemon with a memory budget."""
    listing = (
        "import sys, gpuyard.local.runtime.runtime; print({'grpc', 'httpx', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def _now() -> datetime:
    return datetime.now(UTC)
