"""What a container prints gets into its log, all of it and in order, whoever opens its output anew."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import pytest

import gpuyard
from gpuyard.local.runtime import log_copier
from gpuyard.local.runtime.log_copier import start_copier, wait_until_copied
from tests.small_disk import mounted
from tests.waiting import until_async


async def _print(log: Path, *argv: str, keep_bytes: int = 64 << 20) -> None:
    output = start_copier(log, keep_bytes)
    try:
        process = await asyncio.create_subprocess_exec(*argv, stdout=output, stderr=output)
    finally:
        os.close(output)
    assert await process.wait() == 0
    assert await wait_until_copied(log)


async def test_opening_the_output_anew_cuts_nothing_off(tmp_path: Path) -> None:
    script = "echo 1; echo 2 >/dev/stderr; echo 3 >/dev/stdout; echo 4 | tee /dev/stderr; echo 5 >&2; echo 6"
    await _print(tmp_path / "log", "sh", "-c", script)
    assert (tmp_path / "log").read_text().split() == ["1", "2", "3", "4", "4", "5", "6"]


async def test_every_byte_of_a_fast_writer_is_there(tmp_path: Path) -> None:
    log = tmp_path / "log"
    await _print(log, sys.executable, "-c", "import os\nfor n in range(300_000): os.write(1, b'%d\\n' % n)")
    # Not by lines: a difference of this length takes pytest minutes to show.
    assert (log.read_bytes() == b"".join(b"%d\n" % number for number in range(300_000))) is True


async def test_the_bound_holds_at_any_speed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    await _print(log, "seq", "3000000", keep_bytes=1 << 20)
    expected = b"".join(b"%d\n" % number for number in range(1, 3_000_001))
    assert log.stat().st_size == len(expected)
    assert log.stat().st_blocks * 512 < 1200 << 10
    with log.open("rb") as file:
        file.seek(len(expected) - (1 << 20))
        assert (file.read() == expected[-(1 << 20) :]) is True


async def test_a_full_disk_ends_nobody_and_is_told(tmp_path: Path) -> None:
    """The log may grow to 64 KiB: what the copier can't write it drops, and the writer goes on."""
    log = tmp_path / "log"
    script = f"""
import asyncio, os, resource, subprocess, sys
from pathlib import Path
from typing import Literal
from gpuyard.local.runtime.log_copier import start_copier, wait_until_copied
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
output = start_copier(Path({str(log)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
done = subprocess.run(["seq", "300000"], stdout=output)
os.close(output)
assert asyncio.run(wait_until_copied(Path({str(log)!r})))
sys.exit(done.returncode)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == 0
    assert log.stat().st_size == 1 << 16
    assert log.read_bytes().startswith(b"1\n2\n3\n")


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
async def test_what_a_disk_that_stays_full_cost_is_told(kind: Literal["tmpfs", "ext4"]) -> None:
    with mounted(kind, 4) as folder:
        output = start_copier(folder / "log")
        written = subprocess.run(["seq", "1000000"], stdout=output, check=False)
        os.close(output)
        assert await wait_until_copied(folder / "log")
        assert written.returncode == 0
        with (folder / "log").open("rb") as log:
            kept = log.read()
        assert kept.endswith(b"\n(output is missing here: the log could not be written)\n")
        # The beginning made room for that, unless the file system had kept some: ext4 may have.
        assert kept.startswith(bytes(65536)) or (kind == "ext4" and kept.startswith(b"1\n2\n"))
        assert b"\n20000\n" in kept


async def test_it_ends_with_the_last_writer_and_not_before(tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    os.mkfifo(gate)
    output = start_copier(log)
    later = subprocess.Popen(["sh", "-c", f"read -r line <{gate}; echo late"], stdout=output)
    os.close(output)
    assert not await wait_until_copied(log)
    gate.write_text("go\n")
    assert later.wait() == 0
    assert await wait_until_copied(log)
    assert log.read_text() == "late\n"


async def test_a_log_that_is_there_is_nobodys_to_write(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "log").symlink_to(tmp_path / "target")
    with pytest.raises(FileExistsError):
        start_copier(tmp_path / "log")
    assert (tmp_path / "target").read_text() == "kept"


async def test_it_finds_its_programs_whatever_the_yards_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copier without dd would go on for ever and fill the disk."""
    monkeypatch.setenv("PATH", str(tmp_path))
    log = tmp_path / "log"
    os.close(start_copier(log))
    assert await wait_until_copied(log)
    assert log.read_bytes() == b""


def test_without_dd_it_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(log_copier, "DEFAULT_PATH", str(tmp_path))
    with pytest.raises(OSError, match="can't be started"):
        start_copier(tmp_path / "log")


def _copier_of(log: Path) -> int:
    """The pid of the shell that copies into this log."""
    for entry in Path("/proc").glob("[0-9]*/fd/3"):
        try:
            if entry.readlink() == log and (entry.parent.parent / "comm").read_text() == "sh\n":
                return int(entry.parent.parent.name)
        except OSError:
            continue
    raise AssertionError(f"nobody copies into {log}")


class Looks:
    """Counts how often a wait has looked at the processes of a copier."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        look = log_copier._is_drained

        def counted(log_path: Path, seen: log_copier._CopierLooks) -> bool:
            self.count += 1
            return look(log_path, seen)

        monkeypatch.setattr(log_copier, "_is_drained", counted)

    async def until_more(self, waiting: asyncio.Task[bool]) -> None:
        """Until it has looked more often than an idle copier is looked at, or has ended."""
        enough = self.count + 5
        await until_async(lambda: self.count >= enough or waiting.done(), "it looks at the copier")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


async def _copiers(log: Path) -> dict[int, bool]:
    """The shell and its dd, once that reads; whether it is dd."""
    return await until_async(
        lambda: log_copier._copiers(log), "dd reads", lambda found: set(found.values()) == {False, True}
    )


@pytest.mark.parametrize("held_open", [False, True], ids=["no writer left", "a writer left"])
@pytest.mark.parametrize("stopped", ["shell", "dd", "both"])
async def test_a_copier_that_does_not_get_on_is_waited_for(
    tmp_path: Path, looks: Looks, stopped: str, held_open: bool
) -> None:
    """It may have to wait for its turn, or for a disk, for longer than anybody would guess."""
    log = tmp_path / "log"
    output = start_copier(log)
    copiers = await _copiers(log)
    due = [pid for pid, is_dd in copiers.items() if stopped == "both" or is_dd == (stopped == "dd")]
    for pid in due:
        os.kill(pid, signal.SIGSTOP)
    written: list[bytes] = []

    def write() -> bool:
        written.append(b"%d\n" % len(written))
        os.write(output, written[-1])
        return stopped != "shell" or not any(log_copier._copiers(log).values())

    await until_async(write, "dd has ended, and the shell would have to start another")
    if not held_open:
        os.close(output)
    waiting = asyncio.create_task(wait_until_copied(log))
    await looks.until_more(waiting)
    assert not waiting.done()
    for pid in due:
        os.kill(pid, signal.SIGCONT)
    assert await waiting is not held_open
    assert log.read_bytes() == b"".join(written)
    if held_open:
        os.close(output)
        assert await wait_until_copied(log)


async def test_a_writer_that_never_pauses_is_not_waited_for(tmp_path: Path) -> None:
    """What it wrote before is in the log all the same."""
    log = tmp_path / "log"
    output = start_copier(log, 1 << 20)
    os.write(output, b"first\n")
    endless = subprocess.Popen(["yes"], stdout=output)
    os.close(output)
    try:
        assert not await wait_until_copied(log)
    finally:
        endless.kill()
        endless.wait()
    assert await wait_until_copied(log)


async def test_a_log_that_somebody_else_has_locked_is_not_waited_for(tmp_path: Path) -> None:
    """A run may do that to its own log; nobody copies into it."""
    log = tmp_path / "log"
    os.close(start_copier(log))
    assert await wait_until_copied(log)
    with log.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not await wait_until_copied(log)


async def test_without_descriptors_the_copier_is_not_taken_for_gone(
    tmp_path: Path, looks: Looks, no_descriptors: Callable[[], AbstractContextManager[None]]
) -> None:
    log = tmp_path / "log"
    output = start_copier(log)
    copiers = await _copiers(log)
    for pid in copiers:
        os.kill(pid, signal.SIGSTOP)
    os.write(output, b"all of it\n")
    os.close(output)
    with no_descriptors():
        waiting = asyncio.create_task(wait_until_copied(log))
        await looks.until_more(waiting)
        assert not waiting.done()
    for pid in copiers:
        os.kill(pid, signal.SIGCONT)
    assert await waiting
    assert log.read_bytes() == b"all of it\n"


async def test_what_a_full_disk_cost_is_told_in_its_place(tmp_path: Path) -> None:
    log = tmp_path / "log"
    infinity = resource.RLIM_INFINITY
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        output = start_copier(log)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    subprocess.run(["seq", "300000"], stdout=output, check=True)
    assert log.stat().st_size == 1 << 16
    resource.prlimit(_copier_of(log), resource.RLIMIT_FSIZE, (infinity, before[1]))

    numbers = "".join(f"{number}\n" for number in range(1, 300_001))
    written = [numbers]

    def write_and_look() -> bool:
        os.write(output, b"x\n")
        written.append("x\n")
        return b"missing" in log.read_bytes()

    await until_async(write_and_look, "the gap is marked")
    os.write(output, b"there is room again\n")
    written.append("there is room again\n")
    os.close(output)
    assert await wait_until_copied(log)
    kept, mark, rest = log.read_text().partition("\n(output is missing here: the log could not be written)\n")
    assert kept == numbers[: 1 << 16]
    assert mark
    # From where there was room again nothing is missing; some of the numbers may have been in the pipe still.
    assert rest.endswith("there is room again\n")
    assert "".join(written).endswith(rest) is True  # `is`: pytest would take minutes to show how they differ


#: As a user of its own, whose copier can make no process after the first.
_NO_PROCESS = """
import asyncio, os, resource, signal, sys
from pathlib import Path
from typing import Literal
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.log_copier import start_copier, wait_until_copied

def is_copier(pid):
    try:
        is_ours = os.stat(f"/proc/{pid}").st_uid == os.getuid()
        return is_ours and Path(f"/proc/{pid}/comm").read_text() == "sh\\n"
    except OSError:
        return False

async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)

async def main():
    log = Path(sys.argv[1])
    output = start_copier(log)
    [copier] = [pid for pid in procfs.all_processes() if is_copier(pid)]
    await until(lambda: procfs.descendants([copier], procfs.all_processes()))
    [dd] = procfs.descendants([copier], procfs.all_processes())
    resource.prlimit(copier, resource.RLIMIT_NPROC, (1, 100))
    os.kill(dd, signal.SIGKILL)
    await until(lambda: procfs.read_stat(dd) is None)
    lines = "".join(f"line {number}\\n" for number in range(5000))
    os.write(output, lines.encode())
    await until(lambda: log.read_text() == lines)
    # It sleeps while there is nothing to copy.
    await until(lambda: procfs.read_stat(copier).state == "S")
    assert not procfs.descendants([copier], procfs.all_processes())
    if sys.argv[2] == "in time":
        resource.prlimit(copier, resource.RLIMIT_NPROC, (100, 100))
    os.write(output, b"all is\\nwell")
    os.close(output)
    assert await wait_until_copied(log)
    print(log.read_text().removeprefix(lines), end="")

asyncio.run(main())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs a user of its own")
@pytest.mark.parametrize("processes_are_back", ["in time", "never"])
def test_a_user_without_a_process_left_loses_nothing(folder: Path, processes_are_back: str) -> None:
    source, home = folder / "src", folder / "home"
    shutil.copytree(
        Path(gpuyard.__file__).parent, source / "gpuyard", ignore=shutil.ignore_patterns("__pycache__")
    )
    folder.chmod(0o755)
    home.mkdir()
    user = 2_000_000 + os.getpid()
    os.chown(home, user, user)
    done = subprocess.run(
        ["/usr/bin/python3", "-B", "-c", _NO_PROCESS, str(home / "log"), processes_are_back],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
        user=user,
        group=user,
        extra_groups=[],
        start_new_session=True,
    )
    assert (done.returncode, done.stdout) == (0, "all is\nwell"), done.stderr
