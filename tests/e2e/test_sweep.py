"""Sweeps: one run of many tasks, each with its values, which fail each for itself."""

from __future__ import annotations

import json

from .conftest import Yard
from .shell import Shell

TASK = """
import os, sys
print(sys.argv[1], os.environ["lr"], os.environ["seed"], flush=True)
sys.exit(3 if os.environ["seed"] == "2" and sys.argv[1] == "a,b" else 0)
"""


def test_every_task_gets_its_values_and_the_last_line_names_what_failed(target: Shell) -> None:
    target.script("task.py", TASK)
    # fmt: off
    result = target.call(
        "run", "task.py", "-n", "search", "--sweep", 'lr="a,b",1e-4', "--sweep", "seed=1..3",
        "--at-once", "4", "--", "{lr}",
    )
    # fmt: on
    assert result.code == 3, result.err
    assert sorted(result.out.splitlines()) == sorted(
        f"[{index} lr={lr} seed={seed}] {lr} {lr} {seed}"
        for index, (lr, seed) in enumerate((lr, seed) for lr in ("a,b", "1e-4") for seed in (1, 2, 3))
    )
    last = result.err.splitlines()[-1]
    assert last.startswith("search failed: 1 of 6 tasks failed: task 1, lr=a,b seed=2 (pod search-1-"), last
    assert last.endswith("): exited with 3")
    assert "task 1, lr=a,b seed=2 (pod search-1-" in target.ok("explain", "search")
    shown = json.loads(target.ok("show", "search", "-o", "json"))["attempts"]
    assert [one["values"]["seed"] for one in shown] == ["1", "2", "3"] * 2
    tasks = {one["index"]: one for one in json.loads(target.ok("ps", "--tasks", "-o", "json"))}
    assert [tasks[n]["state"] for n in range(6)] == ["succeeded", "failed", *["succeeded"] * 4]
    assert (tasks[1]["exit_code"], tasks[1]["values"]) == (3, {"lr": "a,b", "seed": "2"})
    assert "5 of 6 done" not in target.ok("ps")
    assert "6 of 6 done, 1 failed" in target.ok("ps")
    assert target.ok("logs", "--rank", "5", "search") == "1e-4 1e-4 3\n"


def test_a_task_that_failed_is_tried_again_alone(yard: Yard) -> None:
    yard.script(
        "again.py",
        "import os, pathlib, sys\n"
        "mark = pathlib.Path('mark' + os.environ['n'])\n"
        "print('tries', os.environ['n'])\n"
        "if os.environ['n'] == '2' and not mark.exists():\n    mark.touch()\n    sys.exit(1)\n",
    )
    result = yard.call("run", "again.py", "-n", "again", "--sweep", "n=1..2", "--retries", "1")
    assert result.code == 0, result.err
    assert sorted(result.out.splitlines()) == ["[0 n=1] tries 1", *["[1 n=2] tries 2"] * 2]


def test_a_stopped_sweep_starts_no_more_tasks(target: Shell) -> None:
    target.script("long.py", "import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    target.ok("run", "long.py", "-n", "long", "--sweep", "n=1..4", "--at-once", "1", "-d")
    target.wait_for("long", "running")
    assert "0 of 4 done" in target.ok("ps")
    target.ok("stop", "long")
    assert target.call("wait", "long").code != 0
    states = [
        one["state"] for one in json.loads(target.ok("ps", "--tasks", "-o", "json")) if one["run"] == "long"
    ]
    assert states == ["stopped"] * 4
