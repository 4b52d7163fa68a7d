"""`gpuyard explain` and the queue: why a run waits, what would let it go, and that this is true."""

from __future__ import annotations

import json

from tests.waiting import until

from .conftest import Yard
from .shell import Shell


def test_a_waiting_run(yard: Yard) -> None:
    yard.background("holder", "--gpus", "6", "--", "sleep", "600")
    yard.ok("run", "-d", "-n", "waiter", "--gpus", "4", "--", "echo", "at last")
    node = yard.status()["node"]
    said = yard.ok("explain", "waiter")
    assert "waiter: pending (Unschedulable)" in said
    assert f"node {node}: 8 GPUs, 6 allotted, 2 free, needs 4" in said
    assert "held by run holder (6 GPUs" in said
    assert f"ask for 2 GPUs instead of 4 (node {node})" in said
    assert f"stop run holder (node {node})" in said

    found = yard.json("explain", "waiter")
    assert found["run"]["state"] == "pending"
    explanation = found["explanation"]
    assert (explanation["blocker"], explanation["never"]) == ("busy", False)
    (arithmetic,) = explanation["nodes"][0]["resources"]
    assert arithmetic == {
        "resource": "nvidia.com/gpu",
        "total": "8",
        "unhealthy": "0",
        "others": "0",
        "allotted": "6",
        "free": "2",
        "needs": "4",
    }
    assert [holder["name"] for holder in explanation["nodes"][0]["holders"]] == ["holder"]
    assert len(explanation["plans"]) == 2
    assert explanation["incomplete"] is False

    blocked = found["blocked"]
    assert (blocked["step"], blocked["cause"]) == ("nodes", "busy")
    assert blocked["owner"] == {"kind": "Job", "namespace": "default", "name": "holder"}
    assert [remedy["text"] for remedy in blocked["remedies"]] == [p["text"] for p in explanation["plans"]]
    states = {entry["step"]: entry["state"] for entry in found["ladder"]}
    assert (states["quota"], states["nodes"], states["image"]) == ("passed", "blocked", "not_reached")
    assert f"held at nodes: {explanation['headline']}" in said


def test_both_suggestions_are_true(yard: Yard) -> None:
    yard.background("holder", "--gpus", "6", "--", "sleep", "600")
    yard.ok("run", "-d", "-n", "waiter", "--gpus", "4", "--", "echo", "at last")
    plans = [plan["text"] for plan in yard.json("explain", "waiter")["explanation"]["plans"]]
    assert ["ask for 2 GPUs" in plans[0], "stop run holder" in plans[1]] == [True, True]
    assert yard.ok("run", "-n", "smaller", "--gpus", "2", "--", "echo", "now") == "now\n"
    # One more than suggested would wait.
    yard.ok("run", "-d", "-n", "larger", "--gpus", "3", "--", "true")
    assert yard.wait_for("larger", "pending")["state"] == "pending"
    yard.ok("rm", "--force", "larger")
    yard.ok("stop", "holder")
    assert yard.wait_for("waiter", "succeeded")["exit_code"] == 0
    assert yard.ok("logs", "waiter") == "at last\n"


def test_another_model_is_the_suggestion_where_the_model_is_what_lacks(yard: Yard) -> None:
    yard.ok("run", "-d", "--wait", "-n", "picky", "--gpus", "B200:1", "--", "true")
    said = yard.ok("explain", "picky")
    assert "B200" in said and "use H100" in said
    assert yard.json("explain", "picky")["explanation"]["never"] is True


def test_a_selector_that_no_node_has(target: Shell) -> None:
    arguments = ("--node-selector", "disk=fast", "--", "true")
    assert "disk=fast" in target.refused(2, "run", *arguments)
    target.ok("run", "-d", "--wait", "-n", "selective", *arguments)
    assert "disk=fast" in target.ok("explain", "selective")


def test_a_run_that_does_not_wait_needs_no_explanation(target: Shell) -> None:
    target.background("fine", "--", "sleep", "600")
    assert target.ok("explain", "fine").startswith("fine: running")
    assert target.json("explain", "fine")["explanation"] is None
    target.call("run", "-n", "bad", "--", "sh", "-c", "exit 3")
    said = target.ok("explain", "bad")
    assert "failed at process: exited with 3" in said
    assert "bad: failed (ExitCode): exited with 3" in said
    assert "gpuyard logs bad" in said


def test_one_status_line_while_it_waits(yard: Yard) -> None:
    yard.background("holder", "--gpus", "8", "--", "sleep", "600")
    follower = yard.start("run", "-n", "waiter", "--gpus", "1", "--", "echo", "done")
    follower.wait_for("waiter: pending: needs 1 GPU, 0 free on ")
    assert "[gpuyard explain waiter]" in follower.err
    assert follower.out == ""
    yard.ok("stop", "holder")
    result = follower.finish()
    assert (result.code, result.out) == (0, "done\n")
    # On a pipe each new text is a line of its own, and none comes twice.
    assert len(set(result.err.splitlines())) == len(result.err.splitlines())


def test_the_queue_goes_by_priority_and_then_by_age(yard: Yard) -> None:
    urgent = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
    path = "/apis/scheduling.k8s.io/v1/priorityclasses"
    yard.api("POST", path, {**urgent, "metadata": {"name": "urgent"}})
    yard.background("holder", "--gpus", "8", "--", "sleep", "600")
    for name, more in (("older", ()), ("newer", ()), ("urgent", ("--priority", "urgent"))):
        yard.ok("run", "-d", "-n", name, "--gpus", "8", *more, "--", "sh", "-c", f"echo {name} >> order")
        yard.wait_for(name, "pending")
    yard.ok("stop", "holder")
    for name in ("older", "newer", "urgent"):
        yard.wait_for(name, "succeeded")
    assert (yard.work / "order").read_text().split() == ["urgent", "older", "newer"]
    assert yard.state("urgent")["priority"] == "urgent"
    yard.api("DELETE", f"{path}/urgent")


def test_what_others_in_the_queue_would_take_isnt_offered(yard: Yard) -> None:
    yard.background("x0", "--gpus", "8", "--", "sleep", "600")
    for name, more in (("x1", ()), ("x2", ()), ("x3", ("--priority", "high"))):
        yard.ok("run", "-d", "-n", name, "--gpus", "8", *more, "--", "sleep", "600")
        yard.wait_for(name, "pending")
    assert "what would run now: stop run x0" in yard.ok("explain", "x3")
    first, second = yard.ok("explain", "x1"), yard.ok("explain", "x2")
    assert "run x3 is ahead of it" in first and "stop run x0" not in first
    assert "run x3 is ahead of it" in second and "stop run x0" not in second
    yard.ok("rm", "--force", "x3")
    assert "what would run now: stop run x0" in yard.ok("explain", "x1")
    assert "run x1 is ahead of it" in yard.ok("explain", "x2")
    yard.ok("stop", "x0")
    yard.wait_for("x1", "running")
    assert yard.wait_for("x2", "pending")["state"] == "pending"


def test_explain_for_machines_is_json_in_every_state(target: Shell) -> None:
    target.ok("run", "-n", "over", "--", "true")
    assert json.loads(target.ok("explain", "over", "-o", "json"))["run"]["state"] == "succeeded"


def test_what_a_failed_run_says_is_explained_at_its_end_and_later(target: Shell) -> None:
    failing = (
        "run",
        "-n",
        "numbers",
        "--",
        "python3",
        "-c",
        "int('GPU-8932f937-d72c-4106-c12f-20bd9faed9f6')",
    )
    assert "GPUYARD_CUDA_INDEXES=1" in target.call(*failing).err
    blocked = target.json("explain", "numbers")["blocked"]
    assert (blocked["step"], blocked["cause"]) == ("process", "GpuIdIsUuid")


def test_a_bus_error_without_a_word_is_explained(target: Shell) -> None:
    died = target.call("run", "-n", "bus", "--", "python3", "-c", "import os; os.kill(os.getpid(), 7)")
    assert "--shm" in died.err
    assert target.json("explain", "bus")["blocked"]["cause"] == "BusError"


def test_a_module_of_the_shells_pythonpath_is_passed_on_as_is_said(yard: Yard) -> None:
    (yard.work / "lib").mkdir()
    (yard.work / "lib" / "mylib.py").write_text("")
    env = {"PYTHONPATH": str(yard.work / "lib")}
    failed = yard.call("run", "--", "python3", "-c", "import mylib", env=env)
    assert "--env PYTHONPATH passes it on" in failed.err and "/usr/bin/python3" not in failed.err
    yard.ok("run", "--env", "PYTHONPATH", "--", "python3", "-c", "import mylib", env=env)


def test_a_module_of_the_runs_folder_is_found_as_is_said(yard: Yard) -> None:
    for file in ("scripts/t.py", "pkg/__init__.py"):
        (yard.work / file).parent.mkdir()
        (yard.work / file).touch()
    (yard.work / "scripts" / "t.py").write_text("import pkg")
    failed = yard.call("run", "scripts/t.py")
    assert "--env PYTHONPATH=. " in failed.err and "python -m scripts.t" in failed.err
    yard.ok("run", "--env", "PYTHONPATH=.", "scripts/t.py")
    yard.ok("run", "--", "python", "-m", "scripts.t")


def test_the_gpus_of_a_run_that_goes_on(yard: Yard) -> None:
    """The simulated H100s are all joined by NVSwitches, and four share a CPU."""
    yard.background("pair", "--gpus", "2", "--", "sh", "-c", yard.waiting)
    said = until(
        lambda: yard.ok("explain", "pair"), "the agent knows who has them", lambda text: "got GPUs" in text
    )
    assert (
        f"got GPUs 0, 1 of node {yard.status()['node']}: each pair joined by 18 NVLinks; NUMA node 0; "
        in said
    )
    assert "of the 6 others that NVLink joins to them none is in use; no free ones are joined better" in said
    (given,) = yard.json("explain", "pair")["given"]
    assert (given["gpus"], given["unread"]) == (["0", "1"], "")
    yard.open_gate("pair")
