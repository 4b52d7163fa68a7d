"""What a command imports: most of what a short one takes. Counted, since time depends on the machine."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from .conftest import Yard
from .shell import GPUYARD, TIMEOUT_S

#: None of these is needed to ask a yard something, and each costs more than the asking.
HEAVY = frozenset(
    {"anyio", "cryptography", "decimal", "difflib", "google", "grpc", "h11", "httpcore", "httptools", "httpx",
     "idna", "isal", "numpy", "orjson", "packaging", "pathspec", "pydantic", "rich", "ruamel", "shutil",
     "uvicorn", "zstandard"}
)  # fmt: skip
#: Packages of ours that only runs in images need.
IMAGES = ("gpuyard.building", "gpuyard.compatibility", "gpuyard.images")

#: What looks whether a yard stands still, once a command has waited for half a second, as on a busy machine.
LOOK = frozenset(
    {
        "gpuyard.local.runtime",
        "gpuyard.local.runtime.procfs",
        "gpuyard.local.settings",
        "gpuyard.local.silence",
    }
)

#: Command: how many modules of ours it may import (folders among them), and which of HEAVY it does need.
BUDGETS = {
    ("ps",): (43, set()),
    ("logs", "one"): (53, set()),
    ("show", "one"): (53, set()),
    ("stop", "one"): (45, set()),
    # click looks among long options first for what `-d` may be.
    ("run", "-d", "--", "/bin/true"): (93, {"difflib"}),
    ("explain", "one"): (108, {"difflib"}),
    ("doctor",): (76, {"difflib", "shutil"}),
}


def imported(yard: Yard, *arguments: str) -> list[str]:
    """Every module that a command imports, in the order in which they were done."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", GPUYARD, *arguments],
        env=yard.environ,
        cwd=yard.work,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return re.findall(r"(?m)^import time: +\d+ \| +\d+ \| +(\S+)$", done.stderr)


@pytest.mark.parametrize("command", BUDGETS, ids=lambda command: command[0])
def test_a_command_imports_no_more_than_it_needs(yard: Yard, command: tuple[str, ...]) -> None:
    most, needed = BUDGETS[command]
    yard.ok("run", "-n", "one", "--", "echo", "hi")
    modules = imported(yard, *command)
    assert "gpuyard.client.http.direct_http" in modules, "the command didn't ask the yard"
    assert {name.partition(".")[0] for name in modules} & HEAVY <= needed
    assert not [name for name in modules if name.startswith(IMAGES)]
    ours = [name for name in modules if name.partition(".")[0] == "gpuyard" and name not in LOOK]
    assert len(ours) <= most, ours


def test_a_cluster_costs_little_more_than_a_yard(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(yard.environ, "KUBECONFIG", yard.ok("kubeconfig").strip())
    modules = imported(yard, "ps", "--context", "gpuyard")
    assert "gpuyard.client.http.cluster_endpoint" in modules
    assert not {name.partition(".")[0] for name in modules} & HEAVY
