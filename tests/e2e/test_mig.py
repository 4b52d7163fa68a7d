"""GPUs are split while the yard runs: what is offered follows, and who runs keeps what is theirs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from typing import Any

from tests.waiting import until

from .conftest import Yard
from .shell import TIMEOUT_S

SMALL, LARGE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"


def offered(yard: Yard) -> dict[str, str]:
    """What pods can ask for of the GPUs, and how many of each."""
    (node,) = yard.get("/api/v1/nodes")["items"]
    return {name: count for name, count in node["status"]["allocatable"].items() if name.startswith("nvidia")}


def cdi_names(yard: Yard) -> list[str]:
    """What containers can be given, without UUIDs."""
    spec = json.loads((yard.paths.cdi_dir / "gpuyard.io-gpu.json").read_text())
    return [device["name"] for device in spec["devices"] if "-" not in device["name"]]


def answered(yard: Yard, answer: str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a command that is answered on a terminal."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            ["gpuyard", *arguments],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=yard.environ,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.returncode, done.stdout
    finally:
        os.close(ours)
        os.close(theirs)


def test_split_run_and_split_again(stopped_yard: Yard) -> None:
    yard = stopped_yard
    yard.ok("up", "--simulate", "H100:2", "--mig-strategy", "mixed")
    until(lambda: offered(yard), "two whole GPUs", lambda found: found == {"nvidia.com/gpu": "2"})
    layout = "0: 3g.40gb all 1g.10gb"
    told = yard.ok("node", "mig", "plan", layout)
    assert "GPU 0 (H100, simulated)\n  MIG is switched on\n  create    3g.40gb at 4\n" in told
    assert "nobody to ask" in yard.refused(2, "node", "mig", "apply", layout)
    code, told = answered(yard, "n", "node", "mig", "apply", layout)
    assert (code, told.count("  create    3g.40gb at 4\n"), "created" in told) == (1, 1, False)
    assert offered(yard) == {"nvidia.com/gpu": "2"}
    code, told = answered(yard, "y", "node", "mig", "apply", layout)
    assert (code, "  created   3g.40gb at 4\n" in told) == (0, True)
    split = {"nvidia.com/gpu": "1", SMALL: "4", LARGE: "1"}
    until(lambda: offered(yard), "the parts are offered", lambda found: found.items() >= split.items())
    names = ["0:0", "0:1", "0:2", "0:3", "0:4", "1", "all"]
    until(lambda: cdi_names(yard) == names, "the CDI spec has them")

    yard.background("small", "--gpus", "1g.10gb", "--", "sleep", "600")
    told = yard.refused(1, "node", "mig", "apply", "--yes", "all: whole")
    assert "1g.10gb@" in told and "stays: pod default/small-" in told
    assert offered(yard).items() >= split.items()
    # What it has stays, and the rest may go.
    found = json.loads(yard.ok("node", "mig", "apply", "-y", "-o", "json", "0: 1g.10gb all 2g.20gb"))
    (gpu,) = found["gpus"]
    assert (found["applied"], found["possible"], gpu["impossible"]) == (True, True, [])
    assert [part["profile"] for part in gpu["keep"]] == ["1g.10gb"]
    assert gpu["keep"][0]["held_by"].startswith("pod default/small-")
    assert {part["profile"] for part in gpu["destroy"]} == {"1g.10gb", "3g.40gb"}
    split = {"nvidia.com/gpu": "1", SMALL: "1", "nvidia.com/mig-2g.20gb": str(len(gpu["create"]))}
    until(lambda: offered(yard), "the new parts are offered", lambda found: found.items() >= split.items())
    assert yard.json("show", "small")["state"] == "running"
    yard.ok("stop", "small")
    until(lambda: yard.call("node", "mig", "apply", "--yes", "all: whole").code == 0, "nothing is in use")
    until(lambda: offered(yard), "the GPUs are whole", lambda found: found.get("nvidia.com/gpu") == "2")


def test_a_split_that_is_not_offered_is_told_at_once_and_ends_with_the_gpus(stopped_yard: Yard) -> None:
    yard = stopped_yard
    yard.ok("up", "--simulate", "H100:2")
    applied = yard.call("node", "mig", "apply", "--yes", "0: 3g.40gb")
    assert "strategy is none, so it offers neither" in applied.err
    until(lambda: node_json(yard)["unoffered"], "the split is told")
    assert "not offered by" in (listed := yard.ok("nodes")) and "GPU 0 is split" in listed
    assert "not offered: GPU 0 is split" in yard.ok("doctor")
    assert "GPU 0 is split" in yard.refused(2, "run", "--gpus", "2", "--", "true")
    yard.call("down", "--stop")
    # Of two GPUs one is whole: nothing is offered, and nobody waits for what never comes.
    up = yard.call("up", "--mig-strategy", "single")
    assert "No GPUs: GPU 1 is whole" in up.out
    log = (yard.home / "daemon.log").read_text()
    assert "the GPUs aren't registered after" not in log
    refused = yard.refused(2, "run", "--gpus", "1", "--", "true")
    assert "gpuyard node mig apply" in refused and "--simulate" not in refused
    yard.ok("run", "-d", "--wait", "--gpus", "1", "-n", "w", "--", "true")
    assert "--simulate" not in yard.ok("explain", "w")
    yard.call("down", "--stop")
    # Others' splits and faults aren't these GPUs'.
    yard.ok("up", "--simulate", "A100:2", "--mig-strategy", "none")
    assert node_json(yard)["gpus"] == 2


def node_json(yard: Yard) -> dict[str, Any]:
    nodes: list[dict[str, Any]] = json.loads(yard.ok("nodes", "-o", "json"))
    return nodes[0]


def test_what_is_wrong_in_a_layout_is_misuse(yard: Yard) -> None:
    assert "has no profile 3g.20gb" in yard.refused(2, "node", "mig", "plan", "0: 3g.20gb")
    assert "there is no GPU 9" in yard.refused(2, "node", "mig", "apply", "--yes", "9: whole")
    told = yard.call("node", "mig", "plan", "1: 3g.40gb 3g.40gb 1g.10gb")
    assert told.code == 1
    assert "impossible: no room for 1g.10gb: 3g.40gb@0 is in the way; 3g.40gb@4 is in the way" in told.out
