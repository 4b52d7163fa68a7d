import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpuyard.devices.gpu_locks import YardHold
from gpuyard.devices.processes import ProcessTable, Starter
from tests.waiting import until

NOW = datetime(2026, 11, 29, 14, 2, tzinfo=UTC)
OURS, ROOTS, NOBODYS = YardHold(os.geteuid(), "/a", "r", "", ""), YardHold(0, "/r", "r", "", ""), 65534
MARK = {"GPUYARD_CONTAINER": "uid_main_0"}
POD, ID = "pod01234567-89ab-cdef-0123-456789abcdef", "0123456789abcdef" * 4
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Proc:
    """A /proc of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "self/ns").mkdir(parents=True)
        (folder / "self/ns/pid").symlink_to("pid:[4026531836]")
        self.table = ProcessTable(folder, lambda: NOW, lambda: 1000.0)

    def add(
        self,
        pid: int,
        *,
        uid: int = NOBODYS,
        name: str = "python3",
        state: str = "S",
        parent: int = 1,
        flags: int = 0,
        start_s: int = 400,
        cmdline: bytes = b"/usr/bin/python3\0train.py\0",
        cgroup: str = "0::/user.slice/session-1.scope\n",
        environ: bytes = b"HOME=/\0",
    ) -> int:
        folder = self.folder / str(pid)
        folder.mkdir(exist_ok=True)
        rest = [state, parent, pid, pid, 0, -1, flags, *[0] * 12, start_s * TICKS_PER_S, 0, 0]
        (folder / "stat").write_text(f"{pid} ({name}) " + " ".join(map(str, rest)))
        (folder / "status").write_text(f"Name:\t{name}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        (folder / "cmdline").write_bytes(cmdline)
        (folder / "cgroup").write_text(cgroup)
        (folder / "environ").write_bytes(environ)
        return pid

    def starter(self, pid: int, *holds: YardHold) -> Starter:
        facts = self.table.look(pid, holds)
        assert facts is not None
        return facts.starter


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_a_process_that_nobody_started_is_foreign(proc: Proc) -> None:
    facts = proc.table.look(proc.add(4711), ())
    assert facts is not None
    assert (facts.starter, facts.command) == (Starter.FOREIGN, "python3")
    assert facts.user == pwd.getpwuid(NOBODYS).pw_name
    assert facts.since == NOW - timedelta(seconds=600)


@pytest.mark.parametrize(
    "cgroup",
    [
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/cri-containerd-1.scope\n",
        "12:cpu:/kubepods/besteffort/pod1/2\n0::/\n",
        "0::/../../kubelet/kubepods/pod1\n",
        "0::/../../pod0c5d0b2e-7a44-4a7e-9f55-0f9b3c3f3b1a/8f3c\n",
        "0::/../../../besteffort/pod0c5d0b2e-7a44-4a7e-9f55-0f9b3c3f3b1a/8f3c\n",
        # As an agent in a cgroup namespace of its own sees others' pods, and containers of its own pod.
        f"0::/../../{POD}/{ID}\n",
        f"0::/../../../{POD}/{ID}\n",
        f"0::/../../../besteffort/{POD}/{ID}\n",
        f"0::/../{ID}\n",
        f"0::/../cri-containerd-{ID}.scope\n",
    ],
)
def test_what_a_kubelet_started_is_in_its_cgroup(proc: Proc, cgroup: str) -> None:
    assert proc.starter(proc.add(1, cgroup=cgroup)) is Starter.KUBELET


@pytest.mark.parametrize(
    "cgroup",
    [f"0::/../../../../system.slice/docker-{ID}.scope\n", f"0::/../../../../user.slice/{POD}/{ID}\n"],
)
def test_what_is_beside_all_pods_is_no_kubelets(proc: Proc, cgroup: str) -> None:
    assert proc.starter(proc.add(1, cgroup=cgroup)) is Starter.FOREIGN


def test_a_mark_counts_only_where_a_yard_has_the_gpu(proc: Proc) -> None:
    marked = b"A=b\0GPUYARD_CONTAINER=uid_main_0\0"
    other = YardHold(4242, "/o", "r", "", "")
    run = proc.add(10, uid=os.geteuid(), environ=marked)
    assert proc.starter(run) is Starter.FOREIGN
    assert proc.starter(run, OURS) is Starter.RUN
    facts = proc.table.look(run, None)
    assert facts is not None and facts.starter is Starter.RUN
    # Anybody may start with this name in the environment, or with one that only ends so.
    assert proc.starter(proc.add(11, environ=b"MY_GPUYARD_CONTAINER=1\0"), OURS) is Starter.FOREIGN
    # Of another user's yard nothing but its user is known.
    assert proc.starter(proc.add(12, uid=4242), other) is Starter.RUN
    assert proc.starter(proc.add(13, uid=4243), other) is Starter.FOREIGN


def test_children_of_a_run_are_the_run(proc: Proc) -> None:
    proc.add(20, environ=b"GPUYARD_CONTAINER=uid_main_0\0")
    proc.add(21, parent=20)
    assert proc.starter(proc.add(22, parent=21), OURS) is Starter.RUN
    cgroup = "5:memory:/gpuyard-0123456789/uid_main_0\n"
    assert proc.starter(proc.add(23, cgroup=cgroup), OURS) is Starter.RUN
    assert proc.starter(proc.add(24, parent=os.getpid()), OURS) is Starter.RUN
    # Whose parent is whose parent: a table that changes while it is read.
    proc.add(30, parent=31)
    assert proc.starter(proc.add(31, parent=30), OURS) is Starter.FOREIGN


def test_what_is_ending_is_nobodys(proc: Proc) -> None:
    assert proc.starter(proc.add(1, state="Z", cmdline=b"", environ=b"")) is Starter.LEAVING
    assert proc.starter(proc.add(2, state="D", flags=0x400004, cmdline=b"", environ=b"")) is Starter.LEAVING


def test_a_pid_is_looked_at_anew_each_time(proc: Proc) -> None:
    first = proc.table.look(proc.add(7, name="old", cmdline=b""), ())
    assert first is not None and first.command == "old"
    second = proc.table.look(proc.add(7, name="new", cmdline=b"", start_s=900), ())
    assert second is not None
    assert (second.command, second.since) == ("new", NOW - timedelta(seconds=100))
    proc.table.keep([])


def test_a_clock_that_is_set_moves_no_process_for_long(tmp_path: Path) -> None:
    clock = [NOW, NOW + timedelta(seconds=1), NOW + timedelta(days=3)]
    proc = Proc(tmp_path)
    table = ProcessTable(tmp_path, lambda: clock.pop(0), lambda: 1000.0)
    proc.add(7)
    seen = [table.look(7, ()) for _ in range(3)]
    began = [facts.since for facts in seen if facts is not None]
    # The clocks aren't read at one moment, so a little doesn't count.
    assert began[0] == began[1] == NOW - timedelta(seconds=600)
    assert began[2] == NOW + timedelta(days=3) - timedelta(seconds=600)


@pytest.mark.parametrize(
    ("cmdline", "command"),
    [
        (b"", "python3"),
        (b"sshd: alice [priv]\0", "sshd:"),
        (b"/opt/\x1b[2Jx\0", "[2Jx"),
        (b"a" * 5000 + b"\0", "a" * 40),
    ],
)
def test_a_program_may_call_itself_anything(proc: Proc, cmdline: bytes, command: str) -> None:
    facts = proc.table.look(proc.add(7, cmdline=cmdline), ())
    assert facts is not None and facts.command == command


@pytest.mark.parametrize("stat", ["", "7", "7 (x", "7 (x) S", "7 (a) b) S 1 2", "no"])
def test_what_is_half_there_is_not_there(proc: Proc, stat: str) -> None:
    pid = proc.add(1 << 30)
    (proc.folder / str(pid) / "stat").write_text(stat)
    assert proc.table.look(pid, ()) is None


def test_in_a_container_nobody_is_known(proc: Proc) -> None:
    (proc.folder / "self/ns/pid").unlink()
    (proc.folder / "self/ns/pid").symlink_to("pid:[4026532000]")
    assert not proc.table.sees_pids
    facts = proc.table.look(4711, ())
    assert facts is not None
    assert (facts.starter, facts.user, facts.command, facts.since) == (Starter.UNKNOWN, "", "", None)


def test_by_the_hosts_proc_a_container_sees_all(proc: Proc) -> None:
    (proc.folder / "self/ns/pid").unlink()
    (proc.folder / "self/ns/pid").symlink_to("pid:[4026532000]")
    (proc.folder / "1/ns").mkdir(parents=True)
    (proc.folder / "1/ns/pid").symlink_to("pid:[4026531836]")
    assert proc.table.sees_pids
    assert proc.starter(proc.add(4711)) is Starter.FOREIGN


@pytest.mark.parametrize(
    ("cgroup", "uid"),
    [
        ("0::/kubepods/besteffort/pod{uid}/{id}", True),
        ("0::/kubepods.slice/kubepods-pod{uid_}.slice/cri-containerd-{id}.scope", True),
        ("0::/../../pod{uid}/{id}", True),
        ("0::/kubepods/pod{uid}/{id}/pod{other}", True),
        ("0::/user.slice/user-1000.slice/pod{other}", False),
        ("0::/kubepods/besteffort", False),
    ],
)
def test_a_process_is_in_the_pod_that_its_kubelet_put_it_into(proc: Proc, cgroup: str, uid: bool) -> None:
    ours, others = "0f3adf1e-9bd5-4d40-8d52-5c0b7c2a86cb", "11111111-2222-3333-4444-555555555555"
    path = cgroup.format(uid=ours, uid_=ours.replace("-", "_"), other=others, id="e" * 64)
    assert proc.table.pod_uid(proc.add(1, cgroup=f"{path}\n")) == (ours if uid else "")


def test_the_environment_tells_one_variable(proc: Proc) -> None:
    pid = proc.add(7, environ=b"A_B=1\0B=GPU-1::2\0C=3\0")
    assert [proc.table.variable(pid, name) for name in ("B", "C", "_B", "D")] == ["GPU-1::2", "3", "", ""]
    assert proc.table.variable(8, "B") == ""


def test_a_process_that_is_hidden_is_unknown(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        assert number == 0
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    facts = proc.table.look(4711, ())
    assert facts is not None and facts.starter is Starter.UNKNOWN


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"], env={**os.environ, **MARK}) as process:
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "it runs")
        yield process
        process.kill()


def test_a_real_process(sleeper: subprocess.Popen[bytes]) -> None:
    table = ProcessTable()
    facts = table.look(sleeper.pid, [OURS])
    assert facts is not None and facts.since is not None
    assert (facts.uid, facts.command, facts.starter) == (os.getuid(), "sleep", Starter.RUN)
    assert abs((datetime.now(UTC) - facts.since).total_seconds()) < 3600
    sleeper.send_signal(signal.SIGKILL)
    until(lambda: "Z" in Path(f"/proc/{sleeper.pid}/stat").read_text(), "it is a zombie")
    facts = table.look(sleeper.pid, ())
    assert facts is not None and facts.starter is Starter.LEAVING
    sleeper.wait()
    gone = table.look(sleeper.pid, ())
    assert gone is None or not table.sees_pids
