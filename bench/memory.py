"""What an idle yard holds in memory, its agent and labeller included."""

from __future__ import annotations

import re
import time
from pathlib import Path

from bench.row import Row
from bench.yard import running_yard

#: After this long the start is over and its garbage collected.
_SETTLE_S = 10.0


def measure() -> list[Row]:
    """Resident memory as such (shared pages count in each process), and with shared pages split up."""
    with running_yard() as yard:
        time.sleep(_SETTLE_S)
        daemon = yard.status()["daemon_pid"]
        pids = (daemon, *children(daemon))
        return [
            Row(f"idle yard, {name}", sum(megabytes(pid, name) for pid in pids), "MB", 130, peer, 608)
            for name, peer in (("Rss", "real Kubernetes"), ("Pss", "real Kubernetes"))
        ]


def children(pid: int) -> list[int]:
    parents = {
        int(status.parent.name): re.search(r"^PPid:\s+(\d+)$", status.read_text(), re.MULTILINE)
        for status in Path("/proc").glob("[0-9]*/status")
    }
    return [child for child, parent in parents.items() if parent is not None and int(parent[1]) == pid]


def megabytes(pid: int, name: str) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024
