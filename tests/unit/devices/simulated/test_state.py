import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.devices.inventory import Inventory
from gpuyard.devices.simulated import state
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.devices.simulated.state import SimulatedProcess, SimulatedState, change_state, read_state


def made(text: str = "H100:2") -> Inventory:
    return simulate(parse_simulation(text), seed="node")


_HUGE = 10**400


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("{", "can't be read"),
        ("[" * 100_000, "can't be read"),
        ("[]", 'isn\'t {"unhealthy"'),
        ('{"0": "XID 79"}', "'0' is no key: unhealthy, mig, idle, processes are"),
        ('{"unhealthy": ["0"]}', 'unhealthy isn\'t {"3": "XID 79"}'),
        ('{"unhealthy": {"1": "lost", "2": "XID 79"}}', "no GPU '2': write an index from 0 to 1"),
        ('{"unhealthy": {"1": "lost", "GPU-x": "XID 79"}}', "no GPU 'GPU-x'"),
        ('{"unhealthy": {"1": "lost", "0": ""}}', "GPU 0 stays healthy"),
        ('{"unhealthy": {"1": "lost", "0": 79}}', "such as XID 79, not 79"),
        ('{"unhealthy": {"1": "lost"}, "healthy": {}}', "'healthy' is no key"),
        ('{"unhealthy": {"1": "lost"}, "mig": []}', 'mig isn\'t {"0": ["3g.40gb@0"]}'),
        ('{"unhealthy": {"1": "lost"}, "mig": {"0": "3g.40gb"}}', "its parts must be a list"),
        ('{"unhealthy": {"1": "lost"}, "mig": {"0": ["3g.40gb@1"]}}',
         "GPU 0: '3g.40gb@1' isn't there: 3g.40gb can only begin at slice 0 or 4"),
        ('{"unhealthy": {"1": "lost"}, "processes": {}}', "processes isn't ["),
        ('{"unhealthy": {"1": "lost"}, "idle": {}}', "idle isn't a list"),
        ('{"unhealthy": {"1": "lost"}, "idle": ["5"]}', "idle: there is no GPU '5'"),
        ('{"unhealthy": {"1": "lost"}, "processes": [{"gpu": "5", "pid": 7}]}', "process 0 isn't"),
        ('{"unhealthy": {"1": "lost"}, "processes": [{"gpu": "1", "pid": true}]}', "process 0 isn't"),
        ('{"unhealthy": {"1": "lost"}, "processes": [7]}', "process 0 isn't"),
        ('{"unhealthy": {"1": "lost"}, "processes": [{"gpu": "1", "pid": 4194305}]}', "process 0 isn't"),
        (f'{{"unhealthy": {{"1": "lost"}}, "processes": [{{"gpu": "1", "pid": 7, "memory_mib": {_HUGE}}}]}}',
         "process 0 isn't"),
        (r'{"unhealthy": {"1": "lost"}, "processes": [{"gpu": "1", "pid": 7, "user": "\ud800"}]}',
         "process 0 isn't"),
        (r'{"unhealthy": {"1": "lost", "0": "\ud800"}}', "GPU 0 stays healthy"),
        (f'{{"unhealthy": {{"1": "lost"}}, "mig": {{"0": ["1g.10gb@{"9" * 5000}"]}}}}', "GPU 0: '1g.10gb@9"),
    ],
    ids=range(24),
)  # fmt: skip
def test_mistakes_are_told_and_the_rest_counts(tmp_path: Path, text: str, mistake: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(text)
    inventory = made()
    state, mistakes = read_state(file, inventory)
    assert [mistake in told for told in mistakes] == [True], mistakes
    assert state.unhealthy == ({inventory.devices[1].uuid: "lost"} if "lost" in text else {})
    assert state.processes == ()


def test_a_gpu_that_cannot_be_split_stays_whole(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"mig": {"0": ["1g.6gb@0"]}}')
    state, mistakes = read_state(tmp_path / "state.json", made("L4"))
    assert state.mig == {}
    assert mistakes == ("GPU 0 stays whole: a L4 can't be split",)


def test_who_else_is_there(tmp_path: Path) -> None:
    file, inventory = tmp_path / "state.json", made()
    file.write_text(
        '{"processes": [{"gpu": 1, "pid": 4711, "memory_mib": 9, "user": "alice", "command": "python"}]}'
    )
    state, mistakes = read_state(file, inventory)
    assert mistakes == ()
    assert state.processes == (SimulatedProcess(inventory.devices[1].uuid, 4711, 9, "alice", "python"),)


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert read_state(tmp_path / "none.json", made()) == (SimulatedState(), ())


def test_a_fifo_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.json")
    state, mistakes = read_state(tmp_path / "state.json", made())
    assert state == SimulatedState()
    assert ["it isn't a regular file" in told for told in mistakes] == [True]


def test_a_change_leaves_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    change_state(file, lambda raw: raw.update(mig={"0": []}))
    change_state(file, lambda raw: raw.update(processes=[]))
    assert json.loads(file.read_text()) == {"mig": {"0": []}, "processes": []}
    assert file.stat().st_mode & 0o777 == 0o600


def test_changes_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    first_has_read = threading.Event()

    def change_too() -> None:
        assert first_has_read.wait(60)
        change_state(file, lambda raw: raw.update(processes=[]))

    second = threading.Thread(target=change_too)

    def change(raw: dict[str, Any]) -> None:
        first_has_read.set()
        # It ends now where nothing holds it up.
        second.join(0.5)
        raw.update(mig={"0": []})

    second.start()
    change_state(file, change)
    second.join()
    assert json.loads(file.read_text()) == {"mig": {"0": []}, "processes": []}


def test_what_cannot_be_read_is_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_text('{"mig": []}')
    with pytest.raises(errors.DeviceError, match=r"can't read .*state\.json") as raised:
        change_state(file, dict.clear)
    assert "remove it" in raised.value.remedy
    assert file.read_text() == '{"mig": []}'


def test_of_many_mistakes_the_first_are_told(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_text(json.dumps({"unhealthy": {"1": "x" * 100_000}, "mig": {"0": ["y" * 5000] * 5000}}))
    mistakes = read_state(file, made())[1]
    assert len(mistakes) == 33 and max(map(len, mistakes)) <= 500
    assert mistakes[-1] == "and 4968 more mistakes"


def test_a_lock_that_is_held_is_waited_for_and_its_holder_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "_LOCK_TIMEOUT_S", 0.1)
    file = tmp_path / "health.json"
    handle = os.open(tmp_path / ".health.json.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(errors.DeviceError, match=rf"pid {os.getpid()} \(.+\) has held") as raised:
            state.change_state(file, lambda raw: raw.update(mig={}))
        assert "kill -CONT" in raised.value.remedy
        assert not file.exists()
    finally:
        os.close(handle)
    state.change_state(file, lambda raw: raw.update(mig={}))
    assert file.exists()
