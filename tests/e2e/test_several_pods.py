"""Runs of several pods: they start together, find one another, and end together."""

from __future__ import annotations

import re

import pytest

from tests.waiting import until

from .conftest import Yard
from .shell import Shell

TALKS = """
import os, socket, sys
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if rank == 0:
    with socket.create_server(("", port)) as server:
        heard = sorted(server.accept()[0].recv(9).decode() for _ in range(size - 1))
    print("heard", heard, flush=True)
else:
    while True:
        try:
            connection = socket.create_connection((address, port))
            break
        except ConnectionRefusedError:
            pass
    connection.sendall(f"rank {rank}".encode())
"""


def test_pods_find_one_another(target: Shell) -> None:
    target.script("talks.py", TALKS)
    result = target.call("run", "talks.py", "-n", "talks", "--nodes", "3", "--gpus", "1")
    assert result.code == 0, result.err
    assert "heard ['rank 1', 'rank 2']" in result.out
    assert target.state("talks")["gpus"] == 3


def test_the_rank_that_failed_is_named_and_the_others_end(target: Shell) -> None:
    target.script(
        "fails.py",
        "import os, sys, time\nif os.environ['RANK'] == '1': sys.exit(7)\ntime.sleep(600)\n",
    )
    result = target.call("run", "fails.py", "-n", "fails", "--nodes", "2")
    assert result.code == 7
    last = result.err.splitlines()[-1]
    assert last.startswith("fails failed: rank 1 (pod fails-1-")
    assert last.endswith("): exited with 7")


#: The barrier is for the handlers: a rank that is ended before it has one can't say anything.
LAST_WORDS = """
import os, signal, socket, sys, time
def told(*_):
    print("last words of", os.environ["RANK"], flush=True)
    time.sleep(0.5)
    sys.exit(0)
signal.signal(signal.SIGTERM, told)
print("up", flush=True)
place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if os.environ["RANK"] == "0":
    with socket.create_server(place) as server:
        others = [server.accept()[0] for _ in range(int(os.environ["WORLD_SIZE"]) - 1)]
    for other in others: other.send(b"!")
else:
    while True:
        try:
            first = socket.create_connection(place)
            break
        except OSError:
            time.sleep(0.1)
    first.recv(1)
while os.environ["RANK"] != os.environ.get("FAILS"): time.sleep(0.1)
sys.exit(7)
"""


def test_the_last_words_of_every_rank_are_kept(target: Shell) -> None:
    target.script("words.py", LAST_WORDS)
    assert target.call("run", "words.py", "-n", "failed", "--nodes", "3", "--env", "FAILS=1").code == 7
    assert {"[0] last words of 0", "[2] last words of 2"} <= {*target.ok("logs", "failed").splitlines()}
    target.ok("run", "words.py", "-n", "stopped", "--nodes", "3", "-d")
    until(lambda: target.ok("logs", "stopped").count("up"), "all are up", lambda up: up == 3)
    target.ok("stop", "stopped")
    said = {f"[{rank}] last words of {rank}" for rank in range(3)}
    assert said <= {*target.ok("logs", "stopped").splitlines()}
    assert target.state("stopped")["state"] == "stopped"


def test_all_start_or_none(yard: Yard) -> None:
    yard.script("waits.py", "import time\ntime.sleep(600)")
    yard.ok("run", "waits.py", "-n", "holds", "--gpus", "6", "-d")
    submitted = yard.call(
        "run", "-n", "gang", "--nodes", "2", "--gpus", "2", "-d", "--", "python", "waits.py"
    )
    assert re.search(r"1 of 2 pods fit now: node \S+ 2 free; the others wait", submitted.err)
    assert " for run holds. None starts without the others" in submitted.err
    until(lambda: yard.state("gang")["reason"], "the gang waits", lambda reason: reason == "Unschedulable")
    pods = yard.api("GET", "/api/v1/namespaces/default/pods?labelSelector=gpuyard.io/run=gang")["items"]
    assert not any(pod["spec"].get("nodeName") for pod in pods)
    yard.ok("stop", "holds")
    until(lambda: yard.state("gang")["state"], "the gang runs", lambda state: state == "running")
    yard.ok("stop", "gang")


def test_more_pods_than_ever_fit_are_refused(yard: Yard) -> None:
    result = yard.call("run", "--nodes", "5", "--gpus", "3", "--", "true")
    assert result.code == 2
    assert result.err.splitlines()[0].startswith(
        "Error: the run asks for 5 pods, each with 3 GPUs, and the nodes have room for 2: node "
    )
    assert yard.call("run", "--nodes", "5", "--gpus", "3", "--wait", "-d", "--", "true").code == 0


@pytest.mark.parametrize("nodes", ["0", "-1", "2.5", "1000000", "many"])
def test_a_number_that_is_none_is_refused(yard: Yard, nodes: str) -> None:
    result = yard.call("run", "--nodes", nodes, "--", "true")
    assert result.code == 2
    assert "--nodes" in result.err


def test_nothing_of_several_ranks_is_lost_at_full_speed(target: Shell) -> None:
    target.script(
        "fast.py",
        "import os, sys\n"
        "for number in range(20_000): sys.stdout.write(f'{os.environ[\"RANK\"]} {number}\\n')\n"
        "sys.stdout.write('no end')\n",
    )
    out = target.ok("run", "fast.py", "-n", "fast", "--nodes", "3")
    for rank in range(3):
        own = [line.removeprefix(f"[{rank}] ") for line in out.splitlines() if line.startswith(f"[{rank}] ")]
        assert own == [*(f"{rank} {number}" for number in range(20_000)), "no end"]
    assert len(out.splitlines()) == 3 * 20_001
    alone = target.ok("logs", "fast", "--rank", "1")
    assert alone.endswith("1 19999\nno end")
    assert target.call("logs", "fast", "--rank", "3").err.splitlines()[0] == "Error: fast has no rank 3"
