"""MPS daemons as processes: a program that keeps what it is told stands in for NVIDIA's."""

import asyncio
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.agent.options.sharing import Sharing, SharingStrategy
from gpuyard.agent.plugin import mps
from gpuyard.agent.plugin.handover import hand_over
from gpuyard.agent.plugin.mps import SHARED_MEMORY, MpsDaemons, MpsFolders
from gpuyard.agent.plugin.mps_programs import MpsPrograms, find_mps_programs
from gpuyard.agent.served import Served, Serving, serve
from gpuyard.devices.inventory import Backend
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from tests import fake_driver
from tests.waiting import until_async

GPUS = replace(simulate(parse_simulation("H100:2"), seed="node"), backend=Backend.NVML)
FIRST, SECOND = (gpu.uuid for gpu in GPUS.devices)
#: In the foreground it serves until it is told to quit; without options it passes its input on.
PROGRAM = f"""#!{sys.executable}
import os, sys, time
folder = os.environ["CUDA_MPS_PIPE_DIRECTORY"]
control = os.path.join(folder, "control")
if sys.argv[1:] == ["-f"]:
    with open(os.path.join(folder, "pid"), "w") as file:
        file.write(f"{{os.getpid()}} {{os.environ['CUDA_VISIBLE_DEVICES']}}")
    open(control, "w").close()
    while "quit" not in open(control).read():
        time.sleep(0.01)
    os.remove(control)
elif not os.path.exists(control):
    sys.exit("Cannot find MPS control daemon process")
else:
    open(control, "a").write(sys.stdin.read())
"""


def by_mps(*indexes: str, memory_mib: int | None = None) -> Served:
    rule = Sharing(SharingStrategy.MPS, 4, devices=indexes, memory_mib=memory_mib)
    return serve(GPUS, Serving(sharing=(rule,)))


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "usr/bin/nvidia-cuda-mps-control"
    file.parent.mkdir(parents=True)
    file.write_text(PROGRAM)
    file.chmod(0o755)
    return file


#: Writes down what it is asked for; it says no when there is a file `refuses`.
SMI = """#!/bin/sh
cd "${0%/*}"
echo "$@" >>modes
[ ! -e refuses ] || { echo insufficient permissions; exit 4; }
"""


@pytest.fixture
def smi(program: Path) -> Path:
    file = program.with_name("nvidia-smi")
    file.write_text(SMI)
    file.chmod(0o755)
    return file


@asynccontextmanager
async def daemons(
    folder: Path | None, program: Path | None, shared_memory: Path = SHARED_MEMORY
) -> AsyncIterator[MpsDaemons]:
    found: MpsPrograms | None = None
    if program:
        smi = program.with_name("nvidia-smi")
        found = MpsPrograms(program, smi if smi.exists() else None, {"PATH": "/usr/bin:/bin"})
    async with asyncio.TaskGroup() as group:
        running = MpsDaemons(group, folder, lambda version: found, shared_memory)
        try:
            yield running
        finally:
            running.end()


def folders_of(running: MpsDaemons, served: Served, index: int) -> MpsFolders | None:
    device = next(each for each in served.devices if each.gpu.index == index)
    try:
        return running.folders(device)
    except errors.DeviceError:
        return None


def pipes_of(running: MpsDaemons, served: Served, index: int) -> Path | None:
    found = folders_of(running, served, index)
    return found.pipes if found else None


def pid_of(folder: Path, uuid: str) -> tuple[int, str]:
    pid, visible = (folder / uuid / "pipe/pid").read_text().split()
    return int(pid), visible


async def test_a_shared_gpu_has_a_daemon_with_its_clients_limits(tmp_path: Path, program: Path) -> None:
    served = by_mps("1")
    async with daemons(tmp_path, program) as running:
        running.update(served)
        pipes = await until_async(lambda: pipes_of(running, served, 1), "it runs")
        assert pipes == tmp_path / SECOND / "pipe"
        assert (pipes / "control").read_text() == (
            "set_default_device_pinned_mem_limit 0 20389M\nset_default_active_thread_percentage 25\n"
        )
        modes = [stat.S_IMODE((tmp_path / SECOND / name).stat().st_mode) for name in ("pipe", "log")]
        assert modes == [0o755, 0o700]
        pid, visible = pid_of(tmp_path, SECOND)
        assert visible == SECOND and Path(f"/proc/{pid}").exists()
        assert running.folders(served.devices[0]) is None
        given = hand_over(GPUS, served.devices[-1:], mps=running.folders(served.devices[-1]))
        assert given.envs["CUDA_MPS_PIPE_DIRECTORY"] == str(pipes)
        assert [mount.container_path for mount in given.mounts] == [str(pipes), "/dev/shm"]
    assert not Path(f"/proc/{pid}").exists() and not (pipes / "control").exists()


async def test_one_that_ends_is_started_again_and_gives_nothing_meanwhile(
    tmp_path: Path, program: Path
) -> None:
    served = by_mps("0")
    async with daemons(tmp_path, program) as running:
        running.update(served)
        await until_async(lambda: pipes_of(running, served, 0), "it runs")
        pid, _ = pid_of(tmp_path, FIRST)
        os.kill(pid, signal.SIGKILL)
        await until_async(lambda: pipes_of(running, served, 0) is None, "its end is seen")
        with pytest.raises(errors.DeviceError, match="MPS daemon of GPU 0 doesn't run now: it ended with"):
            running.folders(served.devices[0])
        await until_async(lambda: pipes_of(running, served, 0), "the next one runs")
        assert pid_of(tmp_path, FIRST)[0] != pid


async def test_other_limits_are_another_daemons_and_what_is_not_shared_has_none(
    tmp_path: Path, program: Path
) -> None:
    async with daemons(tmp_path, program) as running:
        running.update(by_mps())
        everything = by_mps()
        await until_async(lambda: pipes_of(running, everything, 0), "the first runs")
        await until_async(lambda: pipes_of(running, everything, 1), "the second runs")
        pids = [pid_of(tmp_path, uuid)[0] for uuid in (FIRST, SECOND)]
        changed = by_mps("0", memory_mib=1000)
        running.update(changed)
        await until_async(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "both end")
        await until_async(lambda: pipes_of(running, changed, 0), "the next one runs")
        assert "1000M" in (tmp_path / FIRST / "pipe/control").read_text()


async def test_what_can_not_be_limited_is_not_handed_over(tmp_path: Path, program: Path) -> None:
    served = by_mps("0")
    for folder, found, why in ((None, program, "no --mps-dir"), (tmp_path, None, "isn't among the driver's")):
        async with daemons(folder, found) as running:
            running.update(served)

            def said(running: MpsDaemons = running) -> str:
                try:
                    running.folders(served.devices[0])
                except errors.DeviceError as error:
                    return error.message
                return ""

            await until_async(said, "it says why", lambda message, why=why: why in message)  # type: ignore[misc,arg-type]


async def test_simulated_gpus_need_no_daemon(tmp_path: Path, program: Path) -> None:
    served = by_mps("0")
    simulated = replace(served, inventory=replace(GPUS, backend=Backend.SIMULATED))
    async with daemons(tmp_path, program) as running:
        running.update(simulated)
        assert running.folders(simulated.devices[0]) is None
        assert not (tmp_path / FIRST).exists()


async def test_while_its_daemon_runs_a_gpu_is_its_clients_alone(
    tmp_path: Path, program: Path, smi: Path
) -> None:
    served, modes = by_mps("1"), smi.with_name("modes")
    async with daemons(tmp_path, program) as running:
        running.update(served)
        await until_async(lambda: pipes_of(running, served, 1), "it runs")
        assert modes.read_text() == f"--id={SECOND} --compute-mode=EXCLUSIVE_PROCESS\n"
    assert modes.read_text().splitlines()[1:] == [f"--id={SECOND} --compute-mode=DEFAULT"]


async def test_who_may_not_keep_others_off_says_so_and_shares_all_the_same(
    tmp_path: Path, program: Path, smi: Path, caplog: pytest.LogCaptureFixture
) -> None:
    smi.with_name("refuses").touch()
    served = by_mps("0")
    async with daemons(tmp_path, program) as running:
        running.update(served)
        await until_async(lambda: pipes_of(running, served, 0), "it runs")
    assert f"the compute mode of {FIRST} can't be EXCLUSIVE_PROCESS: insufficient permissions" in caplog.text


async def test_shared_memory_of_a_folder_of_its_own_is_any_clients(
    tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "shm"
    here.mkdir(mode=0o755)
    monkeypatch.setattr(mps, "SHARED_MEMORY", here)
    served = by_mps("0")
    async with daemons(tmp_path, program, Path("/dev/shm/of-the-node")) as running:
        running.update(served)
        folders = await until_async(lambda: folders_of(running, served, 0), "it runs")
    assert folders and folders.shared_memory == Path("/dev/shm/of-the-node")
    assert stat.S_IMODE(here.stat().st_mode) == 0o1777


def test_programs_of_a_driver_under_another_root_find_its_libraries_and_no_other_systems(
    tmp_path: Path,
) -> None:
    root, folder = tmp_path / "root", tmp_path / "mps"
    fake_driver.install(root)
    fake_driver.program(root / "usr/bin/nvidia-cuda-mps-control")
    fake_driver.library(root / "usr/lib/x86_64-linux-gnu/libc.so.6", "libc.so.6")
    for _ in range(2):  # A second agent makes the same links.
        found = find_mps_programs(root, fake_driver.VERSION, folder, root)
        assert found and found.smi
        assert found.control.resolve() == root / "usr/bin/nvidia-cuda-mps-control"
        libraries = Path(found.environ["LD_LIBRARY_PATH"])
        assert (libraries / "libcuda.so.1").resolve().is_relative_to(root)
        assert not (libraries / "libc.so.6").exists()
        assert str(found.control.parent) in found.environ["PATH"].split(":")
    assert find_mps_programs(tmp_path / "elsewhere", fake_driver.VERSION, folder) is None
