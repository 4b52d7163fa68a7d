"""Runs whose pods others end: they are made again, and whoever follows is told."""

from __future__ import annotations

from typing import Any

from tests.waiting import until

from .shell import Shell


def pods(target: Shell, name: str) -> list[Any]:
    path = f"/api/v1/namespaces/{target.namespace}/pods?labelSelector=gpuyard.io/run={name}"
    found: list[Any] = target.get(path)["items"]
    return found


def evict(target: Shell, name: str) -> str:
    """Evicts the run's only pod, and returns its name."""
    [pod] = pods(target, name)
    gone = str(pod["metadata"]["name"])
    target.evict(gone)
    return gone


def test_an_evicted_run_is_made_again_without_retries(target: Shell) -> None:
    line = f"echo begin; {target.waiting}; echo end"
    command = target.start("run", "-n", "moved", "--", "sh", "-c", line)
    command.wait_for("begin")
    gone = evict(target, "moved")
    until(lambda: command.out.count("begin") == 2, "the next attempt prints")
    told = target.ok("logs", "moved")
    explained = target.ok("explain", "moved")
    shown = target.json("show", "moved")
    late = target.start("logs", "-f", "moved")
    late.wait_for("begin")
    target.open_gate("moved")
    result = command.finish()
    assert (result.code, result.out) == (0, "begin\nbegin\nend\n"), result.err
    where = (
        "── drained here: it was evicted through the API, as `kubectl drain` does; the next attempt follows"
    )
    assert where in result.err
    assert result.err.index(where) < result.err.index("── attempt 2 ──")
    assert told == "begin\n"
    assert "before that, an attempt was deleted" in explained
    first, second = shown["attempts"]
    assert (first["pod"], first["reason"], first["phase"]) == (gone, "Deleted", None)
    assert (second["reason"], second["phase"]) == (None, "Running")
    assert {event["object"] for event in shown["events"]} >= {f"Pod/{gone}", f"Pod/{second['pod']}"}
    result = late.finish()
    assert (result.code, result.out) == (0, "begin\nend\n")
    assert f"its pod {gone} is gone, and its output)" in result.err
    assert "── attempt 2 ──" in result.err


def test_a_run_that_ends_well_when_it_is_evicted_says_that_it_may_not_be_done(target: Shell) -> None:
    line = "trap 'exit 0' TERM; echo begin; while :; do sleep 0.05; done"
    command = target.start("run", "-n", "saved", "--", "sh", "-c", line)
    command.wait_for("begin")
    evict(target, "saved")
    result = command.finish()
    assert (result.code, result.out) == (0, "begin\n")
    assert "saved succeeded: its process ended with 0 when it was told to end: it was evicted" in result.err


def test_while_it_ends_its_state_says_why(target: Shell) -> None:
    line = f"trap '' TERM; echo begin; {target.waiting}; exit 7"
    target.background("ending", "--", "sh", "-c", line)
    target.wait_for_line("ending", "begin")
    gone = evict(target, "ending")
    state = until(lambda: target.json("ps")[0], "it is being ended", lambda run: run["reason"] == "Drained")
    assert state["state"] == "running"
    target.open_gate("ending")
    until(lambda: [pod["metadata"]["name"] for pod in pods(target, "ending")] not in ([gone], []), "the next")


def test_a_run_that_is_stopped_while_it_is_evicted_is_not_made_again(target: Shell) -> None:
    line = f"trap '' TERM; echo begin; {target.waiting}; exit 7"
    target.background("both", "--", "sh", "-c", line)
    target.wait_for_line("both", "begin")
    gone = evict(target, "both")
    stop = target.start("stop", "both")
    until(lambda: target.get(job_path(target, "both"))["spec"].get("suspend"), "the stop is asked for")
    target.open_gate("both")
    assert stop.finish().code == 0
    assert target.json("ps", "--all")[0]["state"] == "stopped"
    assert all(pod["metadata"]["name"] == gone for pod in pods(target, "both"))


def job_path(target: Shell, name: str) -> str:
    return f"/apis/batch/v1/namespaces/{target.namespace}/jobs/{name}"
