import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.agent.cdi import cdi_spec
from gpuyard.agent.cdi_file import CdiFile
from gpuyard.devices.inventory import Absence, Backend, Inventory
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.cdi import SPEC_FILE, CdiFault, CdiTrouble
from tests.small_disk import mounted

INVENTORY = simulate(parse_simulation("H100:2"), seed="node")
UUIDS = [gpu.uuid for gpu in INVENTORY.devices]


class Clock:
    """A time that stands still until it is moved; seconds go on by themselves when the wall clock is set."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 31, 12, 3, tzinfo=UTC)
        self.steady_s = 100.0

    def steady(self) -> float:
        return self.steady_s

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cdi(tmp_path: Path, clock: Clock) -> CdiFile:
    """The spec of two GPUs, written."""
    file = CdiFile(tmp_path / "run" / "cdi", clock, clock.steady)
    file.publish(INVENTORY)
    return file


def test_publishes_for_everybody_to_read_and_leaves_no_other_file(cdi: CdiFile) -> None:
    cdi.publish(replace(INVENTORY, devices=INVENTORY.devices[:1]))
    assert [path.name for path in cdi.folder.iterdir()] == [SPEC_FILE]
    assert cdi.path.stat().st_mode & 0o777 == 0o644
    names = [device["name"] for device in json.loads(cdi.path.read_text())["devices"]]
    assert names == ["0", UUIDS[0], "all"]


def test_the_spec_goes_with_the_gpus(cdi: CdiFile) -> None:
    gone = Inventory(Backend.NONE, absence=Absence.NO_DRIVER)
    cdi.publish(gone)
    cdi.publish(gone)
    cdi.look()
    assert list(cdi.folder.iterdir()) == []


def test_the_file_of_an_earlier_release_goes(cdi: CdiFile) -> None:
    # It is of the kind nvidia.com/gpu, and collides with NVIDIA's own.
    earlier = cdi.folder / "gpuyard-nvidia-gpu.json"
    earlier.write_text("{}")
    cdi.publish(INVENTORY)
    # Not at once: an agent of that release may serve still.
    assert earlier.exists()
    cdi.look()
    assert not earlier.exists()


def test_a_folder_that_cannot_be_made_is_named_and_written_later(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").touch()
    cdi = CdiFile(tmp_path / "file" / "cdi", clock)
    with pytest.raises(errors.DeviceError) as caught:
        cdi.publish(INVENTORY)
    assert str(tmp_path / "file" / "cdi") in caught.value.message
    assert "--cdi-dir" in caught.value.remedy
    assert cdi.faults() == (CdiFault(CdiTrouble.UNWRITTEN, str(cdi.path), "Not a directory"),)
    (tmp_path / "file").unlink()
    cdi.look()
    assert cdi.path.exists() and cdi.faults() == ()


def link_elsewhere(path: Path) -> None:
    (path.parent / "copy").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to("copy")


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_another(path: Path) -> None:
    (path.parent / "new").write_text("{}")
    (path.parent / "new").rename(path)


def make_the_folder_again(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (Path.unlink, "deleted"),
        (lambda path: path.write_text("{}"), "changed"),
        (lambda path: path.write_bytes(b""), "changed"),
        (lambda path: path.chmod(0o600), "changed"),
        (replace_by_another, "changed"),
        (link_elsewhere, "replaced by a link"),
        (make_a_folder, "replaced by what is no file"),
        (lambda path: shutil.rmtree(path.parent), "deleted"),
        (make_the_folder_again, "deleted"),
    ],
)
def test_what_something_else_did_is_undone_and_told(
    cdi: CdiFile, clock: Clock, harm: Callable[..., object], what: str
) -> None:
    harm(cdi.path)
    cdi.look()
    cdi.look()
    assert not cdi.path.is_symlink()
    assert json.loads(cdi.path.read_text()) == cdi_spec(INVENTORY)
    assert cdi.path.stat().st_mode & 0o777 == 0o644
    (fault,) = cdi.faults()
    assert (fault.trouble, fault.file) == (CdiTrouble.REWRITTEN, str(cdi.path))
    assert fault.detail == f"{what} at 12:03 UTC"
    clock.steady_s += 11 * 60
    assert cdi.faults() == ()


@pytest.mark.parametrize("days", [-3, 3])
def test_a_clock_that_is_set_makes_no_fault_older_or_younger(cdi: CdiFile, clock: Clock, days: int) -> None:
    cdi.path.unlink()
    cdi.look()
    clock.now += timedelta(days=days)
    assert [fault.detail for fault in cdi.faults()] == ["deleted at 12:03 UTC"]
    clock.steady_s += 11 * 60
    assert cdi.faults() == ()


def test_on_a_full_disk_the_old_spec_stays_whole_and_the_new_comes_with_room(clock: Clock) -> None:
    with mounted("tmpfs", 1) as disk:
        cdi = CdiFile(disk / "cdi", clock, clock.steady)
        cdi.publish(replace(INVENTORY, devices=INVENTORY.devices[:1]))
        before = cdi.path.read_bytes()
        with suppress(OSError), (disk / "full").open("wb", buffering=0) as full:
            for _ in range(1024):
                full.write(bytes(4096))
        tries: list[Callable[[], None]] = [lambda: cdi.publish(INVENTORY), cdi.look, cdi.look]
        for write in tries:
            with pytest.raises(errors.DeviceError, match="No space left"):
                write()
            assert cdi.path.read_bytes() == before
            assert [path.name for path in cdi.folder.iterdir()] == [SPEC_FILE]
            assert [fault.trouble for fault in cdi.faults()] == [CdiTrouble.UNWRITTEN]
        (disk / "full").unlink()
        cdi.look()
        assert json.loads(cdi.path.read_text()) == cdi_spec(INVENTORY)
        assert cdi.faults() == ()


def test_each_time_counts(cdi: CdiFile) -> None:
    for _ in range(3):
        cdi.path.unlink()
        cdi.look()
    (fault,) = cdi.faults()
    assert fault.detail == "deleted at 12:03 UTC, 3 times by now"


def test_a_folder_in_its_place_that_holds_something_stays(cdi: CdiFile) -> None:
    cdi.path.unlink()
    cdi.path.mkdir()
    (cdi.path / "mine").touch()
    cdi.look()
    with pytest.raises(errors.DeviceError, match="Directory not empty"):
        cdi.look()
    assert (cdi.path / "mine").exists()
    assert [fault.trouble for fault in cdi.faults()] == [CdiTrouble.UNWRITTEN]


def test_the_same_content_by_another_is_no_change(cdi: CdiFile, clock: Clock) -> None:
    # As an agent writes it that takes over.
    CdiFile(cdi.folder, clock).publish(INVENTORY)
    cdi.look()
    cdi.look()
    assert cdi.faults() == ()


def test_a_folder_that_was_removed_under_a_mount_needs_a_new_process(cdi: CdiFile, tmp_path: Path) -> None:
    # As in a container: its mount is of a folder that no path leads to any more.
    handle = os.open(cdi.folder, os.O_PATH)
    try:
        shutil.rmtree(cdi.folder)
        cdi.folder.mkdir()
        cdi.folder = Path(f"/proc/self/fd/{handle}")
        with pytest.raises(errors.CdiFolderGone):
            cdi.look()
    finally:
        os.close(handle)


DUPLICATES = {
    "copy.json": json.dumps(cdi_spec(INVENTORY), indent=2),
    "nvidia.yaml": f'---\ncdiVersion: 0.5.0\nkind: "gpuyard.io/gpu"\ndevices:\n- name: {UUIDS[1]}\n',
    "bare.yaml": f"kind: gpuyard.io/gpu\ndevices: [{{name: {UUIDS[0]}}}]\n",
    "last.yaml": f"devices: [{{name: {UUIDS[0]}}}]\nkind: gpuyard.io/gpu",
    "comment.yaml": f"kind: gpuyard.io/gpu  # a copy\r\ndevices: [{{name: {UUIDS[0]}}}]\r\n",
    "short.json": json.dumps(cdi_spec(INVENTORY), separators=(",", ":")),
}


@pytest.mark.parametrize("name", DUPLICATES)
def test_another_file_with_its_devices_is_named(cdi: CdiFile, name: str) -> None:
    other = cdi.folder / name
    other.write_text(DUPLICATES[name])
    assert cdi.faults() == cdi.faults() == (CdiFault(CdiTrouble.DUPLICATE, str(other)),)
    other.write_text("{}")
    assert cdi.faults() == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nvidia.yaml", f"kind: nvidia.com/gpu\ndevices: [{{name: {UUIDS[0]}}}]\n"),
        ("ours.json.bak", f"kind: gpuyard.io/gpu\ndevices: [{{name: {UUIDS[0]}}}]\n"),
        ("elsewhere.yaml", "kind: gpuyard.io/gpu\ndevices: [{name: GPU-of-another-node}]\n"),
        ("class.yaml", f"kind: gpuyard.io/gpu-mig\ndevices: [{{name: {UUIDS[0]}}}]\n"),
    ],
)
def test_other_files_are_nobodys_business(cdi: CdiFile, name: str, text: str) -> None:
    (cdi.folder / name).write_text(text)
    (cdi.folder / "gone.json").symlink_to("nowhere")
    os.mkfifo(cdi.folder / "pipe")
    assert cdi.faults() == ()


def test_a_pipe_for_which_the_runtime_waits_is_named(cdi: CdiFile) -> None:
    os.mkfifo(cdi.folder / "pipe.json")
    (cdi.folder / "link.yaml").symlink_to("pipe.json")
    names = ("link.yaml", "pipe.json")
    assert cdi.faults() == tuple(CdiFault(CdiTrouble.PIPE, str(cdi.folder / name)) for name in names)


def test_a_file_that_is_too_large_for_a_spec_is_not_read(cdi: CdiFile) -> None:
    spec = json.dumps(cdi_spec(INVENTORY))
    other = cdi.folder / "other.json"
    other.write_text(spec + " " * ((4 << 20) - len(spec)))
    assert cdi.faults() != ()
    other.write_text(spec + " " * (4 << 20))
    assert cdi.faults() == ()


def test_removing_leaves_what_others_wrote(cdi: CdiFile) -> None:
    (cdi.folder / "nvidia.yaml").touch()
    cdi.remove()
    cdi.remove()
    assert [path.name for path in cdi.folder.iterdir()] == ["nvidia.yaml"]
