"""Runs whose pods come and go while they train."""

from __future__ import annotations

import pytest

from tests.waiting import until

from .shell import Shell

#: Finds the slope of a line by gradient descent, each rank on its part of the data. What a step gives follows
#: from all of them, and so doesn't depend on how many there are. Rank 0 saves after each.
TRAINS = """
import json, os, pathlib, signal, socket, sys, time

rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
print("up with", size, os.environ["PET_NNODES"], os.environ["PET_NODE_RANK"], flush=True)

def partial(slope):
    return sum(2 * (slope * x - 3 * x) * x for x in range(rank, 12, size))

def leave():
    while not told: time.sleep(0.02)
    print("stopped", flush=True)
    sys.exit(0)

def train(others):
    saved = pathlib.Path("/tmp", "gradient-" + os.environ["SAVED_AS"])
    step, slope, sizes = json.loads(saved.read_text()) if saved.exists() else [0, 0.0, []]
    sizes, steps_here = [*sizes, size], 0
    while not (2 in sizes and size == 3 and steps_here == 5):
        for other in others: other.write(json.dumps(slope) + "\\n"); other.flush()
        answers = [other.readline() for other in others]
        if told or not all(answers): leave()
        slope -= 0.0004 * (partial(slope) + sum(map(json.loads, answers)))
        step, steps_here = step + 1, steps_here + 1
        saved.with_suffix(".new").write_text(json.dumps([step, slope, sizes]))
        saved.with_suffix(".new").replace(saved)
        print("step", step, round(slope, 9), flush=True)
        time.sleep(0.1)
    for other in others: other.write("done\\n"); other.flush()

if rank == 0:
    with socket.create_server(("", address[1])) as server:
        train([server.accept()[0].makefile("rw") for _ in range(size - 1)])
else:
    while True:
        try: first = socket.create_connection(address).makefile("rw"); break
        except OSError: time.sleep(0.05)
    for line in first:
        if line == "done\\n": sys.exit(0)
        first.write(json.dumps(partial(json.loads(line))) + "\\n"); first.flush()
    leave()
"""


def curve(steps: int) -> list[float]:
    slope, found = 0.0, []
    for _ in range(steps):
        slope -= 0.0004 * sum(2 * (slope * x - 3 * x) * x for x in range(12))
        found.append(round(slope, 9))
    return found


def test_a_training_keeps_its_curve_while_its_pods_come_and_go(target: Shell) -> None:
    target.script("trains.py", TRAINS)
    saved_as = f"SAVED_AS={target.work.name}"
    target.ok("run", "trains.py", "-n", "elastic", "--nodes", "2..4", "--env", saved_as, "-d")
    follows = target.start("logs", "-f", "elastic")
    follows.wait_for("[0] up with 4 4 0")
    until(lambda: target.state("elastic")["pods"], "four are there", lambda pods: pods["present"] == 4)
    assert "was submitted for 2 to 4 pods, not for 5" in target.refused(2, "scale", "elastic", "--nodes", "5")
    assert target.ok("scale", "elastic", "--nodes", "2") == "Scaled elastic: 4 to 2 pods.\n"
    follows.wait_for("[0] up with 2 2 0")
    follows.wait_for("[3] stopped")
    assert target.ok("scale", "elastic", "--nodes", "3") == "Scaled elastic: 2 to 3 pods.\n"
    ended = follows.finish()
    assert ended.code == 0, ended
    steps = [line.split()[2:] for line in ended.out.splitlines() if line.startswith("[0] step ")]
    assert [int(step) for step, _ in steps] == [*range(1, len(steps) + 1)]
    assert [float(slope) for _, slope in steps] == pytest.approx(curve(len(steps)), abs=1e-8)
    assert ended.err.splitlines()[-1] == "elastic succeeded: with 3 of 3 pods"
    assert "elastic has ended" in target.refused(2, "scale", "elastic", "--nodes", "2")
