"""Sweeps: one run of many tasks, each with its values, which fail each for itself."""

from __future__ import annotations

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
        f"[{index}] {lr} {lr} {seed}"
        for index, (lr, seed) in enumerate((lr, seed) for lr in ("a,b", "1e-4") for seed in (1, 2, 3))
    )
    last = result.err.splitlines()[-1]
    assert last.startswith("search failed: 1 of 6 tasks failed: task 1 (pod search-1-"), last
    assert last.endswith("): exited with 3")


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
    assert sorted(result.out.splitlines()) == ["[0] tries 1", "[1] tries 2", "[1] tries 2"]
