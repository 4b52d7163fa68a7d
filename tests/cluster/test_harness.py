"""The cluster of the tests comes and goes without a trace, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.harness import machine, parts
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.namespaces import ClusterError
from tests.cluster.harness.state import State
from tests.waiting import until

_ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 300


def call(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Runs the harness as a person does, to its end."""
    argv = [sys.executable, "-m", "tests.cluster.harness", command, f"--folder={folder}"]
    return subprocess.run(argv, cwd=_ROOT, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)


def traces(folder: Path) -> list[str]:
    """What is left on this machine of the cluster in a folder."""
    found = [str(folder)] if folder.exists() else []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(folder).encode() in line and entry.name != str(os.getpid()):
            found.append(f"process {entry.name}: {line!r}")
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if str(folder) in line]
    # Sandboxes and what runs in them are in these cgroups, wherever their command lines lead.
    name = Cluster(folder, State(folder / "state.json")).cgroup
    found += [f"cgroup {path}" for path in Path("/sys/fs/cgroup").glob(f"**/{name}")]
    return found


def network() -> str:
    """Addresses, interfaces, namespaces and iptables rules of this machine."""
    commands = (["ip", "-o", "addr"], ["ip", "-o", "route"], ["ip", "netns"], ["iptables-save"])
    printed = [subprocess.run(argv, capture_output=True, text=True, check=True).stdout for argv in commands]
    # Counters of packets and the times that the dump was made are no traces.
    return "\n".join(
        line for text in printed for line in text.splitlines() if not line.startswith(("#", ":"))
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """For a cluster of the test's own, which is stopped in any case."""
    path = Path(tempfile.mkdtemp(dir="/tmp")) / "run"
    yield path
    Cluster.down(path)
    path.parent.rmdir()


def test_it_comes_once_and_goes_without_a_trace(folder: Path) -> None:
    network_before, sysctls_before = network(), machine.read_sysctls()
    first = call(folder, "up")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(f"export KUBECONFIG={folder}/kubeconfig\n")
    assert traces(folder)
    again = call(folder, "up")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "up already" in again.stderr

    cluster = Cluster.open(folder)
    assert cluster is not None
    cluster.kubectl(
        "create", "deployment", "left-over", f"--image={cluster.registry}/pause:1", "--replicas=2"
    )
    cluster.kubectl("rollout", "status", "deployment/left-over")
    # What a second one finds is already as a kubelet wants it, and it leaves that to the first.
    sysctls_meanwhile = machine.read_sysctls()
    second = Cluster(folder.with_name("second"), State(folder.with_name("second") / "state.json"))
    (second.folder / "logs").mkdir(parents=True)
    try:
        second.make_machine()
        assert second.state.sysctls == cluster.state.sysctls
    finally:
        Cluster.down(second.folder)
    assert machine.read_sysctls() == sysctls_meanwhile

    assert call(folder, "down").returncode == 0
    assert traces(folder) == []
    assert (network(), machine.read_sysctls()) == (network_before, sysctls_before)
    again = call(folder, "down")
    assert (again.returncode, again.stderr) == (0, "there is no cluster\n")


@pytest.mark.parametrize("step", ["namespaces", "registry", "apiserver", "nodes"])
def test_an_interrupt_on_the_way_leaves_nothing(folder: Path, step: str) -> None:
    sysctls_before = machine.read_sysctls()
    with start(folder) as process:
        wait_for_step(process, step)
        process.send_signal(signal.SIGINT)
        assert process.wait(_TIMEOUT_S) == 1
    assert traces(folder) == []
    assert machine.read_sysctls() == sysctls_before


def test_what_a_killed_start_left_goes_with_the_next_down(folder: Path) -> None:
    sysctls_before = machine.read_sysctls()
    with start(folder) as process:
        wait_for_step(process, "nodes")
        process.kill()
    assert traces(folder)
    assert call(folder, "down").returncode == 0
    assert traces(folder) == []
    assert machine.read_sysctls() == sysctls_before


def test_a_part_that_fails_is_named_and_nothing_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "etcd", lambda _bin, _data: ["sh", "-c", "sleep 0.5; echo no disk; exit 1"])
    with pytest.raises(ClusterError, match="etcd ended: no disk"):
        Cluster.up(folder, lambda line: None)
    assert traces(folder) == []


def start(folder: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.cluster.harness", "up", f"--folder={folder}"]
    return subprocess.Popen(argv, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for_step(process: subprocess.Popen[str], step: str) -> None:
    """Returns when the start has got so far."""
    assert process.stderr is not None
    until(lambda: process.stderr.readline().startswith(f"{step}:"), f"step {step}")  # type: ignore[union-attr]
