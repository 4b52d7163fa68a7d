"""`gpuyard.connect` and `connect_async`: what a script or a notebook does with runs."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import gpuyard
from gpuyard import errors
from gpuyard.runs.notices import Notice

from .conftest import Yard
from .shell import TIMEOUT_S


@pytest.fixture
def here(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """This process has the yard's folder and shell."""
    for name in ("GPUYARD_HOME", "PATH", "HOME", "USER"):
        monkeypatch.setenv(name, yard.environ[name])
    monkeypatch.chdir(yard.work)
    return yard


def test_a_script_is_run_followed_and_explained(here: Yard) -> None:
    here.script(
        "train.py",
        "import os, sys\n"
        "print('gpus', len(os.environ['CUDA_VISIBLE_DEVICES'].split(',')))\n"
        "print(os.environ['LR'], os.environ['PRICE'], sys.argv[1:])\n"
        "sys.exit(3)\n",
    )
    with gpuyard.connect() as yard:
        run = yard.run(["train.py", "--fast"], gpus=2, env={"LR": "0.1", "PRICE": "$5"}, name="train")
        assert list(run.logs(follow=True)) == ["gpus 2", "0.1 $5 ['--fast']"]
        ended = run.wait()
        assert (ended.state, ended.exit_code, ended.gpus) == ("failed", 3, 2)
        assert "3" in str(run.explain())
        assert list(run.logs(tail_lines=1)) == ["0.1 $5 ['--fast']"]
        assert [state.name for state in yard.runs()] == [run.name] == ["train"]
        run.remove()
        assert yard.runs() == []
        with pytest.raises(errors.UsageError, match="no run 'train'"):
            run.state()


def test_where_a_loop_runs_already(here: Yard) -> None:
    """As in a notebook: the caller's thread has a loop, and calls wait all the same."""

    async def cell() -> int | None:
        with gpuyard.connect() as yard:
            return yard.run(["sh", "-c", "exit 4"]).wait().exit_code

    assert asyncio.run(cell()) == 4


async def test_several_at_once(here: Yard) -> None:
    async with gpuyard.connect_async() as yard, asyncio.TaskGroup() as group:
        runs = [await yard.run(["sh", "-c", f"echo {number}; exit {number}"]) for number in range(3)]
        ends = [group.create_task(run.wait()) for run in runs]
        lines = [[line async for line in run.logs(follow=True)] for run in runs]
    assert [end.result().exit_code for end in ends] == [0, 1, 2]
    assert lines == [["0"], ["1"], ["2"]]


def test_lines_of_several_pods_have_their_rank(here: Yard) -> None:
    with gpuyard.connect() as yard:
        run = yard.run(["sh", "-c", "echo a; printf $RANK"], nodes=2)
        lines = list(run.logs(follow=True))
        assert sorted(lines) == ["[0] 0", "[0] a", "[1] 1", "[1] a"]
        assert [line for line in lines if line.startswith("[1]")] == ["[1] a", "[1] 1"]
        assert list(run.logs(ranks=[1])) == ["[1] a", "[1] 1"]


def test_stopping_a_run_that_is_followed(here: Yard) -> None:
    with gpuyard.connect() as yard:
        run = yard.run(["sh", "-c", "echo begun; printf half; sleep 600"])
        lines = run.logs(follow=True)
        assert next(lines) == "begun"
        assert run.stop().state == "stopped"
        assert list(lines) == ["half"]


def test_a_run_that_waits_says_why(here: Yard) -> None:
    with gpuyard.connect() as yard:
        run = yard.run(["true"], node_selector={"disk": "fast"}, wait=True)
        answer = run.explain()
        assert answer.ladder.blocking is not None
        assert "disk=fast" in str(answer)
        assert answer.to_json()["run"]["name"] == run.name
        assert yard.find(run.name).name == run.name


def test_mistakes_are_told_at_once_by_the_names_of_the_arguments(here: Yard) -> None:
    with gpuyard.connect() as yard:
        with pytest.raises(errors.SpecError) as caught:
            yard.run(["true"], gpus=-1, retries="many", colour="red")
        text = "\n".join(f"{problem.path} {problem.message}" for problem in caught.value.problems)
        assert "gpus=" in text and "retries=" in text and "colour" in text
        with pytest.raises(errors.UsageError, match="env= can't be a builtin_function"):
            yard.run(["true"], env={"A": print})  # type: ignore[dict-item]
        with pytest.raises(errors.UsageError, match="needs 9 GPUs"):
            yard.run(["true"], gpus="H100:9")
        assert yard.runs() == []


def test_a_spec_file_and_arguments_over_it(here: Yard) -> None:
    here.script("gpuyard.yaml", "run: 'echo $A $B'\nenv: {A: file, B: file}\nname: spec\n")
    with gpuyard.connect() as yard:
        run = yard.run(file=Path("gpuyard.yaml"), env={"B": "argument"})
        assert list(run.logs(follow=True)) == ["file argument"]
        with pytest.raises(errors.UsageError, match=r"can't read missing\.yaml"):
            yard.run(file="missing.yaml")


def test_notices_reach_the_callback(here: Yard) -> None:
    heard: list[Notice] = []
    with gpuyard.connect(notify=heard.append) as yard:
        yard.run(["true"], name="twice").wait()
        with pytest.raises(errors.UsageError, match="twice"):
            yard.run(["true"], name="twice")
        yard.run(["true"], name="twice", replace=True).wait()
    assert all(notice.text for notice in heard)


def test_a_connection_that_was_closed(here: Yard) -> None:
    with gpuyard.connect() as yard:
        pass
    yard.close()
    with pytest.raises(errors.UsageError, match="was closed"):
        yard.runs()


def test_ctrl_c_leaves_the_run_alone(here: Yard) -> None:
    here.script(
        "follow.py",
        "import gpuyard\n"
        "with gpuyard.connect() as yard:\n"
        "    for line in yard.run(['sh', '-c', 'echo begun; sleep 600'], name='goes-on').logs(follow=True):\n"
        "        print(line, flush=True)\n",
    )
    with subprocess.Popen(
        [sys.executable, "follow.py"],
        cwd=here.work,
        env=here.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as script:
        assert script.stdout
        assert script.stdout.readline() == "begun\n"
        script.send_signal(signal.SIGINT)
        _, said = script.communicate(timeout=TIMEOUT_S)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert here.json("show", "goes-on")["state"] == "running"


def test_a_cluster_that_is_not_there(here: Yard) -> None:
    with pytest.raises(errors.UsageError, match="no context 'nowhere'"):
        gpuyard.connect("nowhere")


def test_looking_into_a_run(here: Yard) -> None:
    with gpuyard.connect() as yard:
        run = yard.run(["sleep", "600"], name="looked-into")
        here.wait_for("looked-into", "running")
        result = run.exec(["sh", "-c", "cat > given; echo oops >&2; exit 3"], stdin=b"content")
        assert (result.exit_code, result.stdout, result.stderr) == (3, b"", b"oops\n")
        assert run.copy_from("given", here.work / "taken").size_bytes == 7
        assert (here.work / "taken").read_bytes() == b"content"
        run.copy_to(here.work / "taken", "back")
        assert run.exec(["cat", "back"]).stdout == b"content"
