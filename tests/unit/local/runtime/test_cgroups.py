from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import pytest

from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime.cgroups import Cgroups, find_cgroups
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.process.sandbox import no_isolation
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.runtime.values import ContainerSpec, ExitReason, Limits


def _files(folder: Path, **texts: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_values_for_version_2(tmp_path: Path) -> None:
    cgroups = Cgroups(tmp_path, tmp_path)
    assert cgroups.create("c", Limits(cpu_milli=1500, memory_bytes=1 << 30)) == [tmp_path / "c"]
    assert (tmp_path / "c/cpu.max").read_text() == "150000 100000"
    assert (tmp_path / "c/memory.max").read_text() == str(1 << 30)
    assert (tmp_path / "c/memory.oom.group").read_text() == "1"


def test_values_for_version_1(tmp_path: Path) -> None:
    _files(tmp_path / "cpu")
    _files(tmp_path / "memory")
    cgroups = Cgroups(tmp_path / "cpu", tmp_path / "memory")
    assert cgroups.create("c", Limits(cpu_milli=5, memory_bytes=4096)) == [
        tmp_path / "cpu/c",
        tmp_path / "memory/c",
    ]
    assert (tmp_path / "cpu/c/cpu.cfs_quota_us").read_text() == "1000"  # the kernel's least
    assert (tmp_path / "memory/c/memory.limit_in_bytes").read_text() == "4096"


def test_without_limits_kills_are_counted_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "memory").mkdir()
    assert Cgroups(tmp_path / "cpu", tmp_path / "memory").create("c", Limits()) == [tmp_path / "memory/c"]
    assert list((tmp_path / "memory/c").iterdir()) == []
    assert Cgroups().create("c", Limits(cpu_milli=100)) == []


@pytest.mark.parametrize(
    ("cpu", "files", "count", "cause"),
    [
        (
            "m",
            {"memory__events": "max 7\noom 1\noom_kill 3\n", "memory__events__local": "oom 1\n"},
            3,
            "limit",
        ),
        (
            "m",
            {"memory__events": "max 0\noom 0\noom_kill 1\n", "memory__events__local": "oom 0\n"},
            1,
            "node",
        ),
        ("m", {"memory__events": "max 7\noom 0\noom_kill 1\n"}, 1, None),
        ("m", {"memory__events": "max 7\noom 0\noom_kill 0\n"}, 0, None),
        ("c", {"memory__oom_control": "under_oom 0\noom_kill 2\n", "memory__failcnt": "118\n"}, 2, "limit"),
        ("c", {"memory__oom_control": "under_oom 0\noom_kill 2\n", "memory__failcnt": "0\n"}, 2, "node"),
        ("c", {"memory__oom_control": "oom_kill_disable 0\nunder_oom 0\n"}, 0, None),
    ],
)
def test_kills_for_memory_are_counted(
    tmp_path: Path, cpu: str, files: dict[str, str], count: int, cause: str | None
) -> None:
    _files(tmp_path / "m/c", **files)
    cgroups = Cgroups(tmp_path / cpu, tmp_path / "m")
    assert (cgroups.oom_kills("c"), cgroups.oom_cause("c")) == (count, cause)
    assert cgroups.oom_kills("removed") == Cgroups().oom_kills("c") == 0


@pytest.mark.parametrize("name", ["", ".", "..", "../m", "a/b", "\0"])
def test_a_damaged_name_is_no_group(tmp_path: Path, name: str) -> None:
    _files(
        tmp_path / "m", memory__events="oom_kill 7\n", memory__events__local="oom 7\n", cgroup__procs="1\n"
    )
    _files(tmp_path / "m/a/b", memory__events="oom_kill 7\n")
    cgroups = Cgroups(tmp_path / "m", tmp_path / "m")
    assert (cgroups.oom_kills(name), cgroups.oom_cause(name), cgroups.pids(name)) == (0, None, set())
    empty = Cgroups(tmp_path / "c/c", tmp_path / "c/c")
    (tmp_path / "c/c").mkdir(parents=True)
    empty.remove(name)
    assert (tmp_path / "c/c").exists()


@pytest.mark.parametrize(
    ("whole", "own", "cause"), [(None, 64, "limit"), (64, 2048, "node"), (64, None, "node")]
)
async def test_whose_limit_it_was(folder: Path, whole: int | None, own: int | None, cause: str) -> None:
    """With the kernel's own cgroups, of which that of all containers has a limit too."""
    cgroups = await asyncio.to_thread(find_cgroups, f"gpuyard-test-{os.getpid()}")
    try:
        if cgroups.memory is None:
            pytest.skip("no cgroup can be written here")
        if whole is not None:
            file = "memory.max" if cgroups.cpu == cgroups.memory else "memory.limit_in_bytes"
            (cgroups.memory / file).write_text(str(whole << 20))
        limits = Limits() if own is None else Limits(memory_bytes=own << 20)
        argv = ["/usr/bin/python3", "-c", "b'x' * (400 << 20)"]
        container = await Runtimes(no_isolation("test"), cgroups, _now).start(
            folder / "s", ContainerSpec(f"hog-{folder.name}", argv, {}, "/", limits=limits)
        )
        assert (await container.wait()).reason == ExitReason.OOM_KILLED
        assert (container.oom_kills > 0, container.oom_cause) == (True, cause)
    finally:
        cgroups.remove_all()


def test_enforced() -> None:
    assert Cgroups().enforced == "none"
    assert Cgroups(Path("/a"), Path("/a")).enforced == "cpu,memory"


def test_no_cgroups_mounted(tmp_path: Path) -> None:
    _files(tmp_path, mounts="/dev/vda / ext4 rw 0 0\n", own="0::/\n")
    assert find_cgroups("gpuyard-test", tmp_path / "mounts", tmp_path / "own") == Cgroups()
    assert find_cgroups("gpuyard-test", tmp_path / "gone", tmp_path / "own") == Cgroups()


def test_version_2_without_permission_to_hand_controllers_down(tmp_path: Path) -> None:
    """Beside a session's own group, as for a user of a desktop; its files here take no controllers."""
    group = tmp_path / "cg/user.slice"
    _files(group, cgroup__controllers="memory pids", cgroup__subtree_control="")
    _files(tmp_path, mounts=f"cgroup2 {tmp_path}/cg cgroup2 rw 0 0\n", own="0::/user.slice\n")
    _files(tmp_path / "cg", cgroup__controllers="cpuset", cgroup__subtree_control="")
    assert find_cgroups("gpuyard-test", tmp_path / "mounts", tmp_path / "own") == Cgroups()


async def test_limits_hold_where_this_host_lets_us(folder: Path) -> None:
    cgroups = await asyncio.to_thread(find_cgroups, f"gpuyard-test-{os.getpid()}")
    try:
        if cgroups.enforced == "none":
            pytest.skip("no cgroup can be written here")
        runtime = Runtimes(no_isolation("test"), cgroups, _now)
        hog = "x = b'x' * (400 << 20); print('got it')"
        spec = ContainerSpec(
            f"hog-{folder.name}", ["/usr/bin/python3", "-c", hog], {}, "/", limits=Limits(500, 64 << 20)
        )
        container = await runtime.start(folder / "s", spec)
        exit_ = await container.wait()
        assert (exit_.code, exit_.reason) == (137, ExitReason.OOM_KILLED)
        assert container.log_path.read_bytes() == b""
    finally:
        cgroups.remove_all()
    assert not any(path.exists() for path in (cgroups.cpu, cgroups.memory) if path)


def _now() -> datetime:
    return datetime.now(UTC)


def test_a_container_without_limits_has_one_of_processes(tmp_path: Path) -> None:
    for name in ("cpu", "memory", "pids"):
        (tmp_path / name).mkdir()
    cgroups = Cgroups(tmp_path / "cpu", tmp_path / "memory", tmp_path / "pids", 100)
    assert cgroups.create("c", Limits()) == [tmp_path / "memory/c", tmp_path / "pids/c"]
    assert (tmp_path / "pids/c/pids.max").read_text() == "100"
    assert len(cgroups.create("d", Limits(cpu_milli=100))) == 3


def test_a_process_without_a_number_here_is_not_taken_for_our_own_group(tmp_path: Path) -> None:
    _files(tmp_path / "c", cgroup__procs="0\n17\n0\n")
    assert Cgroups(tmp_path, tmp_path).pids("c") == {17}


def test_a_fork_bomb_ends_at_its_limit() -> None:
    """With the kernel's own cgroups, where this process may make them."""
    name = f"gpuyard-test-{os.getpid()}"
    found = find_cgroups(name)
    if found.processes is None:
        pytest.skip("no cgroups can be made here")
    cgroups = dataclasses.replace(found, max_processes=5)
    try:
        folders = cgroups.create("bomb", Limits())
        join = " && ".join(f"echo 0 >{folder}/cgroup.procs" for folder in folders)
        bomb = join + "; for i in 1 2 3 4 5 6 7 8 9; do sleep 600 >/dev/null 2>&1 & done"
        done = subprocess.run(["sh", "-c", bomb], capture_output=True, text=True, check=False, timeout=60)
        assert "fork" in done.stderr and done.returncode != 0
        assert 0 < len(cgroups.pids("bomb")) <= 5
    finally:
        while left := cgroups.pids("bomb"):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        cgroups.remove("bomb")
        cgroups.remove_all()


class _ShortOnce(Cgroups):
    """Lets its first look for kills happen while this process can open nothing."""

    shortages: ClassVar[list[Callable[[], AbstractContextManager[None]]]] = []

    def oom_kills(self, name: str) -> int:
        with self.shortages.pop()() if self.shortages else contextlib.nullcontext():
            return super().oom_kills(name)


async def _start_with_kills(folder: Path, argv: list[str]) -> tuple[Container, Path]:
    """A container in groups that are plain folders, where the whole yard has lost seven."""
    for name in ("cpu", "memory"):
        _files(folder / name, memory__oom_control="oom_kill 7\n", memory__failcnt="7\n")
    cgroups = _ShortOnce(folder / "cpu", folder / "memory")
    name = f"test-{folder.name}"
    container = await Runtimes(no_isolation("test"), cgroups, _now).start(
        folder / "s", ContainerSpec(name, argv, {"PATH": "/usr/bin:/bin"}, "/")
    )
    return container, folder / "memory" / name


async def test_kills_are_seen_at_the_end_also_when_descriptors_were_short(
    folder: Path, no_descriptors: Callable[[], AbstractContextManager[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    container, group = await _start_with_kills(folder, ["sh", "-c", "exit 3"])
    _files(group, memory__oom_control="oom_kill 1\n", memory__failcnt="0\n")
    monkeypatch.setattr(_ShortOnce, "shortages", [no_descriptors])
    exit_ = await container.wait()
    assert not _ShortOnce.shortages
    assert (exit_.code, exit_.reason, container.oom_cause) == (3, ExitReason.OOM_KILLED, "node")


async def test_a_lost_journal_takes_neither_name_nor_start(folder: Path) -> None:
    container, group = await _start_with_kills(folder, ["sleep", "600"])
    started_at, journal = container.started_at, container.folder / journals.JOURNAL
    journal.rename(folder / "kept")
    container.look_for_oom_kills()
    assert (container.oom_kills, container.started_at) == (0, started_at)
    _files(group, memory__oom_control="oom_kill 2\n")
    container.look_for_oom_kills()
    assert container.oom_kills == 2
    (folder / "kept").rename(journal)
    await container.stop(0)
    await container.wait()
