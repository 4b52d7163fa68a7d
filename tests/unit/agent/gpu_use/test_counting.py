from itertools import count
from pathlib import Path

import pytest

from gpuyard.agent.gpu_use.counting import UseCount
from gpuyard.agent.gpu_use.ledger import HeldDevice, PodName
from gpuyard.agent.gpu_use.use_file import UseRecord, read_use
from gpuyard.devices.readings import Reading

POD = PodName("default", "train-0")
HELD = {POD: {HeldDevice("GPU-a", "GPU-a")}}


def counted(file: Path, begin_s: int, *, looks: int, boot: str = "boot") -> UseRecord:
    """After so many looks, two seconds apart, at a GPU that draws 1 W."""
    now_s = begin_s
    use = UseCount(file, seconds=lambda: float(now_s), boot_id=lambda: boot)
    for now_s in range(begin_s, begin_s + 2 * looks, 2):
        use.note(HELD, {"GPU-a": Reading(energy_mj=now_s * 1000)})
    found = read_use(file)
    assert found is not None
    return found


def test_the_next_process_goes_on_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "use.json"
    first = counted(file, 0, looks=3)
    second = counted(file, 30, looks=2)
    assert second.session == first.session
    # Also with the time in between: the pod held it before and afterwards.
    [pod] = second.pods
    assert (pod.use.gpu_s, pod.use.energy_j) == (32, 32)


def test_after_a_boot_or_with_a_broken_file_it_begins_anew(tmp_path: Path) -> None:
    file = tmp_path / "use.json"
    first = counted(file, 1000, looks=2)
    second = counted(file, 5, looks=2, boot="next boot")
    assert second.session != first.session and second.pods[0].use.gpu_s == 2
    file.write_text("{")
    assert counted(file, 5, looks=2).pods[0].use.gpu_s == 2


def test_no_file_where_no_pod_has_a_gpu(tmp_path: Path) -> None:
    UseCount(tmp_path / "use.json", boot_id=lambda: "b").note({}, {})
    assert not (tmp_path / "use.json").exists()


def test_what_says_nothing_new_is_not_written(tmp_path: Path) -> None:
    file, clock = tmp_path / "use.json", count()
    use = UseCount(file, seconds=lambda: float(next(clock)), boot_id=lambda: "b")
    for held in (HELD, HELD, {}):
        use.note(held, {})
    stamp = file.stat()
    for _ in range(5):
        use.note({}, {})
    assert file.stat() == stamp


def test_what_cannot_be_written_is_said_once_and_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = count()
    file = tmp_path / "folder/use.json"
    use = UseCount(file, seconds=lambda: float(next(clock)), boot_id=lambda: "b")
    for _ in range(3):
        use.note(HELD, {})
    assert caplog.text.count("can't write what pods use") == 1
    file.parent.mkdir()
    use.note(HELD, {})
    found = read_use(file)
    assert found is not None and found.pods[0].use.gpu_s == 3
