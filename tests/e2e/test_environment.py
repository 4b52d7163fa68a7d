"""What a run's process finds: a clean environment, its GPUs and no others, /dev/shm of its size."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.waiting import until

from .conftest import Yard
from .shell import Shell

LOOK = """
import json, os
print(json.dumps({
    "env": dict(os.environ),
    "dev": sorted(os.listdir("/dev")),
    "shm": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
    "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "tmp": sorted(os.listdir("/tmp")),
}))
"""
#: Of the yard itself: which container this is, and what a shell would set.
OURS = {"GPUYARD_CONTAINER", "LOGNAME", "PWD"}
ALWAYS = {
    *("PATH", "HOME", "USER", "LANG", "PYTHONUNBUFFERED"),
    *("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "PET_MASTER_PORT"),
}


def look(yard: Yard, *arguments: str, env: dict[str, str] | None = None) -> Any:
    yard.script("look.py", LOOK)
    return json.loads(yard.ok("run", *arguments, "look.py", env=env))


@pytest.fixture
def sandboxed(yard: Yard) -> Yard:
    if yard.status()["isolation"]["level"] != "bubblewrap":
        pytest.skip("needs bubblewrap")
    return yard


def test_without_gpus(yard: Yard) -> None:
    found = look(yard, "--env", "MINE=1")["env"]
    assert found.keys() - OURS == ALWAYS | {"MINE"}
    assert (found["NVIDIA_VISIBLE_DEVICES"], found["CUDA_VISIBLE_DEVICES"]) == ("void", "")
    assert (found["HOME"], found["USER"], found["LANG"]) == (str(yard.work), "tester", "C.UTF-8")
    assert set(yard.environ["PATH"].split(":")) <= set(found["PATH"].split(":"))
    assert "leaked" not in found.values()


def test_with_gpus(yard: Yard) -> None:
    found = look(yard, "-n", "eyes", "--gpus", "2")["env"]
    assert found.keys() - OURS == ALWAYS | {"GPUYARD_SIMULATED", "GPUYARD_GPUS"}
    assert (found["GPUYARD_SIMULATED"], found["GPUYARD_GPUS"]) == ("1", "2")
    assert found["NVIDIA_VISIBLE_DEVICES"] == found["CUDA_VISIBLE_DEVICES"]
    devices = found["CUDA_VISIBLE_DEVICES"].split(",")
    assert sorted(devices) == sorted(yard.state("eyes")["attempts"][0]["devices"])
    assert len(set(devices)) == 2


def test_gpus_are_the_run_s_own(target: Shell) -> None:
    show = ("sh", "-c", "echo $CUDA_VISIBLE_DEVICES $GPUYARD_GPUS $SECRET_OF_THE_SHELL; ls -d /dev/nvidia?")
    devices, count, *nodes = target.ok("run", "--gpus", "2", "--", *show).split()
    assert (len(set(devices.split(","))), count, len(set(nodes))) == (2, "2", 2)
    result = target.call("run", "--", *show)
    assert "/dev/nvidia0" not in result.out and "GPU-" not in result.out


def test_gpus_by_number_where_the_run_asks_for_it(yard: Yard) -> None:
    found = look(yard, "--gpus", "2", "--env", "GPUYARD_CUDA_INDEXES=1")["env"]
    assert found["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert found["NVIDIA_VISIBLE_DEVICES"].count("GPU-") == 2


def test_an_active_virtual_environment_comes_along(yard: Yard) -> None:
    folder = yard.work / "its-venv/bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    found = look(yard, env={"VIRTUAL_ENV": str(folder.parent)})["env"]
    assert found["VIRTUAL_ENV"] == str(folder.parent)
    assert found["PATH"].split(":")[0] == str(folder)


def test_the_daemon_s_own_environment_stays_with_it(stopped_yard: Yard) -> None:
    stopped_yard.ok("up", env={"ANOTHER_SECRET": "of the one who said up", "USER": "starter"})
    found = look(stopped_yard)["env"]
    assert found.keys() - OURS == ALWAYS
    assert found["USER"] == "tester"


def test_a_user_can_not_widen_what_was_allotted(target: Shell) -> None:
    said = target.refused(2, "run", "--gpus", "1", "--env", "CUDA_VISIBLE_DEVICES=0,1,2", "--", "true")
    assert "CUDA_VISIBLE_DEVICES" in said and "--gpus" in said


def test_a_port_of_one_s_own_choice_stays(yard: Yard) -> None:
    assert look(yard, "--env", "PET_MASTER_PORT=29511")["env"]["PET_MASTER_PORT"] == "29511"


def test_two_runs_at_once_share_no_gpu_and_no_port(yard: Yard) -> None:
    show = "echo $CUDA_VISIBLE_DEVICES; echo $PET_MASTER_PORT; echo end; sleep 600"
    for name in ("one", "two"):
        yard.background(name, "--gpus", "4", "--", "sh", "-c", show)
        yard.wait_for_line(name, "end")
    said = [yard.ok("logs", name).splitlines()[:2] for name in ("one", "two")]
    (gpus, port), (other_gpus, other_port) = said
    assert len({*gpus.split(","), *other_gpus.split(",")}) == 8
    assert port != other_port
    assert 1024 <= int(port) <= 65535


def test_only_the_device_nodes_that_were_allotted(sandboxed: Yard) -> None:
    def gpu_nodes(*arguments: str) -> list[str]:
        return [name for name in look(sandboxed, *arguments)["dev"] if name.startswith("nvidia")]

    assert gpu_nodes() == []
    assert len([name for name in gpu_nodes("--gpus", "2") if name[6:].isdigit()]) == 2
    assert len([name for name in gpu_nodes("--gpus", "8") if name[6:].isdigit()]) == 8


def test_a_process_sees_neither_others_nor_their_temporary_files(sandboxed: Yard) -> None:
    sandboxed.background("neighbour", "--", "sh", "-c", "touch /tmp/mine; sleep 600")
    found = look(sandboxed)
    assert len(found["pids"]) <= 3
    assert "mine" not in found["tmp"]


def test_the_yard_s_own_files_are_hidden_from_the_run_and_from_what_enters_it(sandboxed: Yard) -> None:
    folders = (str(sandboxed.home), str(sandboxed.paths.runtime_dir))
    # Below /tmp: a container's own has them only because they are named.
    places = [f"--env={name}={folder}" for name, folder in zip(("DATA", "SOCKETS"), folders, strict=True)]
    look = 'cat "$DATA/token" "$DATA/pki/ca.key" "$SOCKETS/yard.json"; find "$DATA" "$SOCKETS"'
    sandboxed.background("curious", *places, "--", "sh", "-c", f"{look}; {sandboxed.waiting}")
    until(lambda: sandboxed.ok("logs", "curious").count("\n") == 5, "it has looked around")
    assert [line for line in sandboxed.ok("logs", "curious").splitlines() if line.startswith("/")] == [
        *folders
    ]
    assert sandboxed.ok("exec", "curious", "--", "sh", "-c", look).splitlines() == [*folders]


def test_dev_shm_has_the_size_that_was_asked_for(sandboxed: Yard) -> None:
    assert look(sandboxed, "--shm", "48Mi")["shm"] == 48 * 2**20
    # Half of the memory, as Linux does it, where nothing was said.
    assert look(sandboxed, "--memory", "256Mi")["shm"] == 128 * 2**20


def test_a_full_dev_shm_does_not_reach_the_next_run(sandboxed: Yard) -> None:
    fill = "dd if=/dev/zero of=/dev/shm/file bs=1M count=64 2>/dev/null; ls /dev/shm"
    assert sandboxed.ok("run", "--shm", "16Mi", "--", "sh", "-c", fill) == "file\n"
    assert sandboxed.ok("run", "--shm", "16Mi", "--", "ls", "/dev/shm") == ""


def test_an_env_file_and_variables_of_the_shell(yard: Yard) -> None:
    (yard.work / ".env").write_text("A=file\nB=file\n")
    spec = "env: {A: spec, WHO: '${USER}', AS_IT_IS: '$${USER} $$'}\n"
    (yard.work / "gpuyard.yaml").write_text(spec)
    found = look(yard, "-f", "gpuyard.yaml", "--env-file", ".env", "--env", "B=flag")["env"]
    assert [found[key] for key in ("A", "B", "WHO", "AS_IT_IS")] == ["file", "flag", "tester", "${USER} $$"]


def test_a_run_over_its_timeout_ends_and_keeps_its_output(yard: Yard) -> None:
    yard.script("long.py", "import time\nprint('began', flush=True)\ntime.sleep(600)")
    done = yard.call("run", "-n", "long", "--timeout", "1s", "long.py")
    assert done.code == 143
    state = yard.state("long")
    assert (state["state"], state["reason"]) == ("failed", "DeadlineExceeded")
    assert yard.ok("logs", "long") == "began\n"
    assert "give it more time: --timeout" in yard.ok("explain", "long")


def test_a_run_that_saves_when_its_time_is_over_is_no_success(yard: Yard) -> None:
    save = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\ntime.sleep(600)"
    yard.script("save.py", save)
    done = yard.call("run", "-n", "save", "--timeout", "3s", "save.py")
    assert (done.code, yard.state("save")["exit_code"]) == (124, 0), done.err
    waited = yard.call("wait", "save")
    assert (waited.code, waited.out.partition(":")[0]) == (124, "save failed")
