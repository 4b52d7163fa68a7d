from dataclasses import replace
from pathlib import Path

from gpuyard.devices.amd.gpus import read_gpus
from gpuyard.devices.amd.readings import read_all, read_processes
from gpuyard.devices.readings import GpuProcess, Reading
from tests.amd_machines import AmdMachine


def test_a_board_with_all_sensors(tmp_path: Path) -> None:
    machine = AmdMachine("radeon", tmp_path)
    machine.write("class/kfd/kfd/proc/4711/vram_22047", "22548578304")
    machine.write("class/kfd/kfd/proc/4711/vram_55903", "0")
    machine.write("class/kfd/kfd/proc/12/vram_22047", "0")
    devices = read_gpus(machine.sys_root, tmp_path).devices
    assert read_all(machine.sys_root, devices) == {
        "GPU-9e7f4de7ac7cf81b": Reading(
            utilisation_percent=3,
            memory_busy_percent=1,
            memory_used_mib=1330,
            memory_free_mib=23229,
            temperature_c=44,
            memory_temperature_c=62,
            temperature_limit_c=100,
            power_w=24.0,
            sm_clock_mhz=62,
            memory_clock_mhz=456,
            pcie_replays=0,
        )
    }
    assert read_processes(machine.sys_root, devices) == {
        "GPU-9e7f4de7ac7cf81b": (GpuProcess(4711, 21504, "compute"),)
    }


def test_what_is_not_there_is_not_said(tmp_path: Path) -> None:
    machine = AmdMachine("mi300x", tmp_path)
    first, second, *_ = read_gpus(machine.sys_root, tmp_path).devices
    machine.write("bus/pci/devices/0000:05:00.0/gpu_busy_percent", "")
    found = read_all(machine.sys_root, [first, second, replace(second, uuid="GPU-gone", minor=99)])
    assert found.keys() == {first.uuid, second.uuid}
    assert (found[first.uuid].utilisation_percent, found[second.uuid].utilisation_percent) == (None, 0)
    # It has no sensor at its edge.
    assert (found[second.uuid].temperature_c, found[second.uuid].temperature_limit_c) == (39, 100)


def test_a_part_has_nothing_of_its_own_but_processes(tmp_path: Path) -> None:
    machine = AmdMachine("mi300x", tmp_path)
    gpu = read_gpus(machine.sys_root, tmp_path).devices[0]
    assert gpu.amd is not None
    part = replace(gpu, amd=replace(gpu.amd, partition="cpx_nps4"))
    assert read_all(machine.sys_root, [part]) == {gpu.uuid: Reading()}
    assert read_processes(machine.sys_root, [part]) == {gpu.uuid: ()}
