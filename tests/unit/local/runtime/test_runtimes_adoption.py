from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime import procfs
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.runtime.values import ContainerSpec, Exit, ExitReason
from tests.waiting import until_async

#: A daemon in small: starts containers with this isolation, says so, and waits to be killed.
_DAEMON = """
import asyncio, json, sys
from datetime import UTC, datetime
from pathlib import Path
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.runtime.process.sandbox import Isolation
from gpuyard.local.runtime.values import ContainerSpec

async def main():
    folder, isolation, commands = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
    runtime = Runtimes(Isolation(**isolation), Cgroups(), lambda: datetime.now(UTC))
    containers = []
    for name, script in commands.items():
        spec = ContainerSpec(name=f"{folder.name}-{name}", argv=["sh", "-c", script],
                             env={"PATH": "/usr/bin:/bin"}, working_dir=str(folder))
        containers.append(await runtime.start(folder / name, spec))
    print("started", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


#: Becomes a shell that has the journal as descriptor 3.
_WITH_JOURNAL = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv('/bin/sh', ['sh', '-c', sys.argv[2]])"


@contextmanager
def _daemon(runtime: Runtimes, folder: Path, commands: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    isolation = json.dumps(vars(runtime.process.isolation))
    argv = [sys.executable, "-c", _DAEMON, str(folder), isolation, json.dumps(commands)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _start_and_die(runtime: Runtimes, folder: Path, commands: dict[str, str]) -> None:
    with _daemon(runtime, folder, commands) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"


async def _adopted(runtime: Runtimes, folder: Path) -> Container:
    found = await runtime.adopt(folder)
    assert isinstance(found, Container)
    return found


async def test_running_one_goes_on_and_ends_as_it_would(runtime: Runtimes, folder: Path) -> None:
    script = "echo before; while [ ! -e go ]; do sleep 0.01; done; echo after; exit 7"
    _start_and_die(runtime, folder, {"a": script})
    container = await _adopted(runtime, folder / "a")
    await until_async(container.log_path.read_bytes, "it prints")
    (folder / "go").touch()
    exit_ = await container.wait()
    assert (exit_.code, exit_.reason) == (7, ExitReason.ERROR)
    assert container.log_path.read_text() == "before\nafter\n"


async def test_one_that_ended_while_nobody_looked(runtime: Runtimes, folder: Path) -> None:
    _start_and_die(runtime, folder, {"a": "while [ ! -e go ]; do sleep 0.01; done; echo done; exit 3"})
    (folder / "go").touch()
    await _exit_code_of(folder / "a")
    ended_at = datetime.fromtimestamp((folder / "a/journal").stat().st_mtime, UTC)
    later = Runtimes(runtime.process.isolation, Cgroups(), lambda: datetime.now(UTC) + timedelta(hours=1))
    container = await _adopted(later, folder / "a")
    exit_ = await container.wait()
    assert (exit_.code, exit_.reason) == (3, ExitReason.ERROR)
    # The last words in a journal come a moment after the exit code; the clock is an hour ahead.
    assert ended_at <= exit_.finished_at < ended_at + timedelta(minutes=1)
    assert container.log_path.read_text() == "done\n"
    assert await later.adopt(folder / "a") == exit_


async def test_what_it_left_behind_is_ended_at_adoption(runtime: Runtimes, folder: Path) -> None:
    _start_and_die(
        runtime, folder, {"a": "setsid sleep 60 & echo $! ; while [ ! -e go ]; do sleep 0.01; done"}
    )
    (folder / "go").touch()
    await _exit_code_of(folder / "a")
    container = await _adopted(runtime, folder / "a")
    assert (await container.wait()).code == 0
    mark = f"GPUYARD_CONTAINER={folder.name}-a"
    assert procfs.with_environment(mark, procfs.all_processes()) == set()


async def test_an_adopted_one_can_be_stopped(runtime: Runtimes, folder: Path) -> None:
    _start_and_die(
        runtime, folder, {"a": "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.01; done"}
    )
    container = await _adopted(runtime, folder / "a")
    await until_async(container.log_path.read_bytes, "it prints")
    await container.stop(60)
    exit_ = await container.wait()
    assert exit_.code == 9
    assert container.log_path.read_text() == "up\nbye\n"


async def test_adopted_twice_in_a_row(runtime: Runtimes, folder: Path) -> None:
    _start_and_die(runtime, folder, {"a": "while [ ! -e go ]; do sleep 0.01; done; exit 2"})
    first = await _adopted(runtime, folder / "a")
    first.close()
    second = await _adopted(runtime, folder / "a")
    (folder / "go").touch()
    assert (await second.wait()).code == 2


async def _exit_code_of(folder: Path) -> None:
    """Returns once the journal of the container there has its exit code."""
    await until_async(
        lambda: journals.read(folder / "journal"),
        f"an exit code in {folder}",
        lambda journal: journal is not None and journal.exit_code is not None,
    )


@pytest.mark.parametrize("seed", range(5))
async def test_killed_at_any_moment(runtime: Runtimes, folder: Path, seed: int) -> None:
    """Nothing that was started is lost, and what is said not to have started never ran."""
    names = [f"c{number}" for number in range(12)]
    rng = random.Random(seed)
    with _daemon(runtime, folder, {name: f"echo ran >>{name}.ran; sleep 60" for name in names}) as process:
        stop_at = rng.choice(names)
        while not (folder / stop_at).exists() and process.poll() is None:
            await asyncio.sleep(0)
        await asyncio.sleep(rng.random() * 0.01)
        process.kill()
        process.wait()
    found = {name: await runtime.adopt(folder / name) for name in names}
    for name, container in found.items():
        if container is None:
            assert not (folder / name).exists()
            assert not (folder / f"{name}.ran").exists()
        else:
            assert isinstance(container, Container)
            await container.stop(0)
            assert (await container.wait()).code == 137
    marks = procfs.all_processes()
    for name in names:
        assert procfs.with_environment(f"GPUYARD_CONTAINER={folder.name}-{name}", marks) == set()
    for name in (name for name, container in found.items() if container is None):
        spec = ContainerSpec(f"{folder.name}-{name}", ["true"], {"PATH": "/usr/bin:/bin"}, str(folder))
        again = await runtime.start(folder / name, spec)
        assert (await again.wait()).code == 0


async def test_no_start_at_all(runtime: Runtimes, folder: Path) -> None:
    assert await runtime.adopt(folder / "never") is None


async def test_intent_without_a_process_may_start_again(runtime: Runtimes, folder: Path) -> None:
    (folder / "a").mkdir()
    os.close(_intent(folder / "a/journal"))
    assert await runtime.adopt(folder / "a") is None
    assert not (folder / "a").exists()


async def test_intent_whose_process_is_slow_to_name_itself(runtime: Runtimes, folder: Path) -> None:
    (folder / "a").mkdir()
    journal = _intent(folder / "a/journal", isolation=runtime.process.isolation.level)
    # As the shell that starts a container, which here waits for a word before it does.
    script = 'read -r go; read -r l </proc/$$/stat; echo "{ \\"stat\\": \\"$l\\" }" >&3; exec sleep 60'
    with subprocess.Popen(
        [sys.executable, "-c", _WITH_JOURNAL, str(journal), script], stdin=subprocess.PIPE, pass_fds=[journal]
    ) as process:
        os.close(journal)
        adoption = asyncio.create_task(runtime.adopt(folder / "a"), name="adoption")
        done, _ = await asyncio.wait([adoption], timeout=0.1)
        assert not done
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        container = await adoption
        assert isinstance(container, Container)
        process.kill()
        assert (await container.wait()).code == 137


async def test_another_boot(runtime: Runtimes, folder: Path) -> None:
    """Pids start over: nothing of the earlier boot is looked for, let alone signalled."""
    with subprocess.Popen(["sleep", "60"]) as bystander:
        stat = Path(f"/proc/{bystander.pid}/stat").read_text().strip()
        (folder / "a").mkdir()
        journal = _intent(folder / "a/journal", boot_id="an earlier boot")
        os.write(journal, json.dumps({"stat": stat}).encode() + b"\n")
        os.close(journal)
        found = await runtime.adopt(folder / "a")
        assert isinstance(found, Exit)
        assert (found.code, found.reason) == (255, ExitReason.NODE_REBOOTED)
        assert await runtime.adopt(folder / "a") == found
        assert bystander.poll() is None
        bystander.kill()


async def test_another_boot_after_its_end(runtime: Runtimes, folder: Path) -> None:
    (folder / "a").mkdir()
    journal = _intent(folder / "a/journal", boot_id="an earlier boot")
    os.write(journal, b'{ "exit-code": 4 }\n')
    os.close(journal)
    found = await runtime.adopt(folder / "a")
    assert isinstance(found, Exit)
    assert (found.code, found.reason) == (4, ExitReason.ERROR)


async def test_a_pid_that_is_another_process_now(runtime: Runtimes, folder: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as bystander:
        mine = procfs.read_stat(bystander.pid)
        assert mine is not None
        line = Path(f"/proc/{bystander.pid}/stat").read_text().strip()
        line = line.replace(f" {mine.start_ticks} ", f" {mine.start_ticks - 1} ", 1)
        (folder / "a").mkdir()
        journal = _intent(folder / "a/journal", isolation=runtime.process.isolation.level)
        os.write(journal, json.dumps({"stat": line, "child-pid": bystander.pid}).encode() + b"\n")
        os.close(journal)
        container = await _adopted(runtime, folder / "a")
        await container.stop(0)
        exit_ = await container.wait()
        assert (exit_.code, exit_.reason) == (137, ExitReason.UNKNOWN)
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("text", [b"", b"{", b'{"boot-id": "x", "na', b"\0" * 100])
async def test_a_journal_torn_by_a_crash_of_the_host(runtime: Runtimes, folder: Path, text: bytes) -> None:
    (folder / "a").mkdir()
    (folder / "a/journal").write_bytes(text)
    assert await runtime.adopt(folder / "a") is None


def _intent(path: Path, *, boot_id: str | None = None, isolation: str = "none") -> int:
    return journals.create(
        path,
        boot_id=procfs.boot_id() if boot_id is None else boot_id,
        name=path.parent.parent.name,
        isolation=isolation,
        started_at=datetime.now(UTC),
    )
