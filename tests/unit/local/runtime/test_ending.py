from __future__ import annotations

import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuyard.local.runtime.ending import conclude
from gpuyard.local.runtime.journal import Journal
from gpuyard.local.runtime.procfs import ProcessStat
from gpuyard.local.runtime.values import ExitReason

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ENDED = datetime(2026, 1, 1, tzinfo=UTC)
STARTED = ProcessStat(7, "S", 1, 7, 9)


@pytest.mark.parametrize(
    ("code", "started", "signalled", "oom", "log", "expected"),
    [
        (0, True, None, False, "", (0, "Completed")),
        (3, True, None, False, "", (3, "Error")),
        (0, True, signal.SIGTERM, False, "", (0, "Completed")),
        (137, True, None, True, "", (137, "OOMKilled")),
        # A killed worker that the command survived is its own affair.
        (0, True, None, True, "", (0, "Completed")),
        (None, True, None, True, "", (137, "OOMKilled")),
        (None, True, signal.SIGTERM, False, "", (143, "Error")),
        (None, True, signal.SIGKILL, False, "", (137, "Error")),
        (None, True, None, False, "bwrap: execvp x: No such file or directory\n", (127, "StartError")),
        (None, True, None, False, "bwrap: execvp x: Permission denied\n\n", (126, "StartError")),
        (None, True, None, False, "bwrap: Can't mkdir /x: Permission denied\n", (128, "StartError")),
        (None, False, None, False, "gpuyard: cannot create /sys/fs/cgroup\n", (128, "StartError")),
        (None, True, None, False, "epoch 1\n", (137, "ContainerStatusUnknown")),
        # What a user's program says of bubblewrap is no start error when it has an exit code.
        (1, True, None, False, "bwrap: execvp x: No such file or directory\n", (1, "Error")),
    ],
)
def test_ends(
    tmp_path: Path,
    code: int | None,
    started: bool,
    signalled: signal.Signals | None,
    oom: bool,
    log: str,
    expected: tuple[int, str],
) -> None:
    (tmp_path / "log").write_text(log)
    journal = Journal(exit_code=code, started=STARTED if started else None, written_at=ENDED)
    end = conclude(journal, tmp_path / "log", signalled=signalled, out_of_memory=oom, now=NOW)
    assert (end.code, end.reason) == expected
    assert end.finished_at == (NOW if code is None else ENDED)
    if end.reason == ExitReason.START_ERROR:
        assert end.message == log.strip()


def test_no_log(tmp_path: Path) -> None:
    end = conclude(Journal(), tmp_path / "log", signalled=None, out_of_memory=False, now=NOW)
    assert (end.code, end.reason, end.message) == (128, ExitReason.START_ERROR, "")
