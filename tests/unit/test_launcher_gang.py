"""Launchers of several pods, as processes that meet on this machine."""

from __future__ import annotations

import functools
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from gpuyard import launcher_gang
from gpuyard.local.kubelet.ports import free_port
from gpuyard.workloads import pod_failure_policy
from tests.launchers import WAITS, Start
from tests.waiting import until


def test_the_exit_code_is_the_one_that_jobs_ignore() -> None:
    assert launcher_gang.EXIT_WITH_ANOTHER == pod_failure_policy.EXIT_WITH_ANOTHER
    assert launcher_gang.EXIT_MISSING == pod_failure_policy.EXIT_MISSING


def test_they_start_together_and_end_well(start: Start) -> None:
    first, second = start(0, "print('up')"), start(2, "print('up')")
    time.sleep(0.5)
    assert not first.lines
    assert not second.lines
    third = start(1, "print('up')")
    assert [rank.wait() for rank in (first, second, third)] == [0, 0, 0]
    assert [rank.lines for rank in (first, second, third)] == [["up"]] * 3


@pytest.mark.parametrize("failing", [0, 1])
def test_when_one_fails_the_others_end(start: Start, failing: int) -> None:
    ranks = [start(rank, "raise SystemExit(7)" if rank == failing else WAITS) for rank in range(3)]
    codes = [rank.wait() for rank in ranks]
    assert codes == [7 if rank == failing else 193 for rank in range(3)]
    told = f"gpuyard: this pod ends since rank {failing} exited with 7"
    assert all(rank.lines[-1] == told for number, rank in enumerate(ranks) if number != failing)


@pytest.mark.parametrize("lost", [0, 2])
def test_when_one_is_lost_the_others_end(start: Start, lost: int) -> None:
    ranks = [start(rank) for rank in range(3)]
    until(lambda: all(rank.lines == ["up"] for rank in ranks), "all are up")
    os.killpg(ranks[lost].process.pid, signal.SIGKILL)
    others = [rank for number, rank in enumerate(ranks) if number != lost]
    assert [rank.wait() for rank in others] == [193, 193]
    assert all(rank.lines[-1] == f"gpuyard: this pod ends since rank {lost} is lost" for rank in others)


def saves_and_fails(folder: Path, on_told: str, rest: str) -> tuple[str, str]:
    """The code of a rank that handles the stop, and of one that fails once the other is ready for it."""
    ready = str(folder / "ready")
    saves = (
        f"import pathlib, signal, sys, time\ndef told(*_): {on_told}\n"
        f"signal.signal(signal.SIGTERM, told)\npathlib.Path({ready!r}).touch()\n{rest}"
    )
    fails = f"import os, time\nwhile not os.path.exists({ready!r}): time.sleep(0.05)\nraise SystemExit(1)"
    return saves, fails


def test_one_that_saves_when_it_is_told_has_the_time(start: Start, tmp_path: Path) -> None:
    on_told = "time.sleep(1); print('saved', flush=True); sys.exit(0)"
    saves, fails = saves_and_fails(tmp_path, on_told, "time.sleep(600)")
    ranks = [start(0, saves, size=2), start(1, fails, size=2)]
    assert [rank.wait() for rank in ranks] == [193, 1]
    assert ranks[0].lines[0] == "saved"


def test_it_is_told_once_though_its_job_stops_it_too(start: Start, tmp_path: Path) -> None:
    saves, fails = saves_and_fails(
        tmp_path, "print('told', flush=True)", "for _ in range(20): time.sleep(0.1)"
    )
    ranks = [start(0, saves, size=2), start(1, fails, size=2)]
    until(lambda: "told" in ranks[0].lines, "it is told")
    ranks[0].process.send_signal(signal.SIGTERM)
    assert ranks[0].wait() == 193
    assert ranks[0].lines.count("told") == 1


def test_who_never_comes_is_named(start: Start) -> None:
    ranks = [start(0, within_s=3), start(2, within_s=3)]
    assert [rank.wait() for rank in ranks] == [195, 193]
    said = "gpuyard: this run's pods didn't start together: rank 1 isn't there"
    assert [rank.lines for rank in ranks] == [[said], [said]]


def test_without_the_first_the_others_give_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    gang = launcher_gang.Rank(1, 2, "localhost", free_port(), "u")
    monkeypatch.setattr(launcher_gang, "_LAST_WORD_S", 0)
    with pytest.raises(launcher_gang.NotTogether, match=r"rank 0 isn't there: localhost port .*refused"):
        gang.meet(0.5)


def test_strangers_and_restarted_pods_do_not_disturb(start: Start, gang_port: int) -> None:
    first = start(0)
    for said in (b"here other 1\n", b"here u 99\n", b"here u 0\n", b"x" * 5000, b"\xff\n\n", b""):
        until(functools.partial(_says, gang_port, said), "the first listens")
    once = start(1)
    # Its connection is taken in, and gone again: the pod was deleted.
    time.sleep(0.5)
    os.killpg(once.process.pid, signal.SIGKILL)
    again, last = start(1), start(2)
    until(lambda: all(rank.lines == ["up"] for rank in (first, again, last)), "all are up")


def test_a_stop_while_it_waits_ends_it(start: Start) -> None:
    first = start(0)
    time.sleep(0.5)
    first.process.send_signal(signal.SIGTERM)
    assert first.wait() == 128 + signal.SIGTERM


def test_the_one_that_failed_ends_when_the_others_are_known_to_have(start: Start, tmp_path: Path) -> None:
    saves, fails = saves_and_fails(tmp_path, "sys.exit(0)", "time.sleep(600)")
    saved, failed = start(0, saves, size=2), start(1, fails, size=2)
    assert saved.wait() == 193
    assert failed.process.poll() is None
    assert failed.wait() == 1


def test_of_several_that_fail_the_first_one_s_code_counts(start: Start, tmp_path: Path) -> None:
    saves, fails = saves_and_fails(tmp_path, "pass", "time.sleep(1.5); sys.exit(9)")
    ranks = [start(0, saves, size=2), start(1, fails, size=2)]
    assert [rank.wait() for rank in ranks] == [193, 1]


def test_who_is_through_waits_for_the_others(start: Start, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    fails = f"import os, time\nwhile not os.path.exists({go!r}): time.sleep(0.05)\nraise SystemExit(3)"
    through, failed = start(0, "print('through')", size=2), start(1, fails, size=2)
    until(lambda: through.lines == ["through"], "the first one's command has ended")
    Path(go).touch()
    assert [through.wait(), failed.wait()] == [193, 3]
    assert through.lines[-1].endswith("since rank 1 exited with 3; its own command exited with 0")


def test_a_gang_that_saved_when_it_was_stopped_has_not_succeeded(start: Start) -> None:
    saves = "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(0))\nprint('up', flush=True)\n"
    ranks = [start(rank, saves + "time.sleep(600)", size=2) for rank in range(2)]
    until(lambda: all(rank.lines == ["up"] for rank in ranks), "all are up")
    for rank in ranks:
        rank.process.send_signal(signal.SIGTERM)
    assert [rank.wait() for rank in ranks] == [143, 193]


def test_a_stop_is_the_command_s_alone(start: Start) -> None:
    ranks = [start(0, size=2), start(1, size=2)]
    until(lambda: all(rank.lines == ["up"] for rank in ranks), "all are up")
    for rank in ranks:
        rank.process.send_signal(signal.SIGTERM)
    codes = [rank.wait() for rank in ranks]
    assert sorted(codes) == [143, 193]


def test_many_pods(start: Start, gang_port: int) -> None:
    size = 60
    first = start(0, "print('up')", size=size)
    lines: list[socket.socket] = []
    for rank in range(1, size):
        until(functools.partial(_connect, gang_port, lines, b"here u %d\n" % rank), "the first listens")
    for line in lines:
        assert line.recv(3) == b"go\n"
        line.sendall(b"end 0 alone\n")
    assert first.wait() == 0
    assert all(line.recv(100) == b"over well\n" for line in lines)
    for line in lines:
        line.close()


def test_who_saves_when_another_is_lost_is_not_waited_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUYARD_GRACE_S", "600")
    saves = (
        "import os, pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: pathlib.Path(os.environ['GPUYARD_SAVED']).touch())\n"
        "print('up', flush=True)\n"
        "while True: time.sleep(600)"
    )
    first, other = start(0, saves, size=2), start(1, size=2)
    until(lambda: first.lines + other.lines, "both are up", lambda lines: lines == ["up", "up"])
    os.killpg(other.process.pid, signal.SIGKILL)
    assert first.wait() == launcher_gang.EXIT_WITH_ANOTHER


def _says(port: int, data: bytes) -> bool:
    try:
        with socket.create_connection(("localhost", port)) as connection:
            connection.sendall(data)
    except ConnectionRefusedError:
        return False
    except OSError:
        pass  # it didn't listen to the end
    return True


def _connect(port: int, lines: list[socket.socket], data: bytes) -> bool:
    try:
        lines.append(socket.create_connection(("localhost", port)))
    except ConnectionRefusedError:
        return False
    lines[-1].sendall(data)
    return True
