"""What is kept between starts, and how files of the yard are replaced."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.local.settings import (
    Choices,
    RunningYard,
    Settings,
    load_running,
    load_settings,
    save_running,
    save_settings,
    write_private,
)

RUNNING = RunningYard(1, 2, "https://127.0.0.1:6443", "node", "0.1.0", "2026-01-31T12:00:00Z")


def mode(file: Path) -> int:
    return file.lstat().st_mode & 0o7777


def test_settings_come_back(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    assert load_settings(file) == Settings(simulate="", port=0)
    save_settings(file, Settings("H100:8", 6443))
    assert load_settings(file) == Settings("H100:8", 6443)
    assert mode(file) == 0o600


def test_a_backend_is_kept_until_it_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    save_settings(file, Settings().chosen(Choices(gpu_backend="acme_gpus")))
    kept = load_settings(file)
    assert kept.chosen(Choices()).gpu_backend == "acme_gpus"
    assert kept.chosen(Choices(gpu_backend="")).gpu_backend == ""


def test_settings_of_another_release_come_back_as_far_as_they_go(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"port": 7, "colour": "green"}')
    assert load_settings(file) == Settings("", 7)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b'{"port": ', b"[]", b'{"port": "many"}', b'{"port": null}', b'{"port": 65536}', b"\xff"),
        *(b'{"port": 1e400}', b"[" * 100_000),
    ],
)
def test_damaged_settings_are_named_with_the_remedy(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "settings.json"
    file.write_bytes(text)
    with pytest.raises(errors.YardError, match=f"the settings in {file} can't be read") as caught:
        load_settings(file)
    assert caught.value.remedy == f"remove {file} and say `gpuyard up` again"


def test_a_fifo_in_the_place_of_the_settings_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "settings.json")
    with pytest.raises(errors.YardError, match=r"settings\.json can't be read: it isn't a regular file"):
        load_settings(tmp_path / "settings.json")


def test_what_a_start_says_counts_and_the_rest_is_kept() -> None:
    kept = Settings("H100:8", 6443)
    assert kept.chosen(Choices()) == kept
    assert kept.chosen(Choices(simulate="")) == Settings("", 6443)
    assert kept.chosen(Choices(port=0)) == Settings("H100:8", 0)
    assert kept.chosen(Choices(mig_strategy="mixed")) == Settings("H100:8", 6443, "mixed")


def test_the_daemon_is_told_what_was_chosen() -> None:
    assert Choices().arguments() == []
    assert Choices("", 0, "single", "{}").arguments() == [
        *("--simulate=", "--port=0", "--mig-strategy=single", "--gpu-config={}")
    ]


def test_what_the_daemon_says_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "yard.json"
    assert load_running(file) is None
    save_running(file, RUNNING)
    assert load_running(file) == RUNNING
    assert mode(file) == 0o600


@pytest.mark.parametrize("text", [b"", b"[]", b'{"daemon_pid": 1}', b'{"other": 1}', b"\xff", b"[" * 100_000])
def test_what_no_daemon_said_is_nothing(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "yard.json").write_bytes(text)
    assert load_running(tmp_path / "yard.json") is None


def test_a_fifo_says_nothing_and_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "yard.json", 0o600)
    assert load_running(tmp_path / "yard.json") is None
    save_running(tmp_path / "yard.json", RUNNING)
    assert load_running(tmp_path / "yard.json") == RUNNING


def test_a_reader_has_the_old_text_or_the_new(tmp_path: Path) -> None:
    """The file is replaced, never written into."""
    file = tmp_path / "file"
    write_private(file, "old")
    with file.open() as reader:
        write_private(file, "new")
        assert reader.read() == "old"
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_the_same_text_is_not_written_again(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_private(file, "text")
    before = file.stat()
    write_private(file, "text")
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("wrong", [0o644, 0o400, 0o4600])
def test_the_same_text_with_another_mode_is_made_private(tmp_path: Path, wrong: int) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    file.chmod(wrong)
    write_private(file, "text")
    assert (file.read_text(), mode(file)) == ("text", 0o600)


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == 0o600


def test_a_link_is_replaced_and_what_it_leads_to_is_left_alone(tmp_path: Path) -> None:
    other, file = tmp_path / "other", tmp_path / "file"
    other.write_text("text")
    other.chmod(0o600)
    file.symlink_to(other)
    # A link in the temporary file's place isn't followed either.
    (tmp_path / f".file.{os.getpid()}").symlink_to(other)
    write_private(file, "text")
    assert not file.is_symlink() and file.read_text() == "text"
    write_private(file, "new")
    assert other.read_text() == "text"


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / "gone" / "file"
    with pytest.raises(errors.StoreUnwritable, match=f"can't write {file}: No such file") as caught:
        write_private(file, "text")
    assert caught.value.remedy
    (tmp_path / "folder").mkdir()
    with pytest.raises(errors.StoreUnwritable, match="Is a directory"):
        write_private(tmp_path / "folder", "text")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_a_write_that_ends_half_way_leaves_the_old_text(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_private(file, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(errors.StoreUnwritable, match="File too large"):
            write_private(file, "x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_said_to_be_one(tmp_path: Path) -> None:
    """In a file system of one page, mounted where nobody else sees it."""
    script = f"""
import sys
from pathlib import Path
from gpuyard import errors
from gpuyard.local.settings import write_private
file = Path({str(tmp_path)!r}) / "file"
write_private(file, "old")
try:
    write_private(file, "x" * 100_000)
except errors.StoreFull as error:
    write_private(file, "old")  # says so already: needs no space
    sys.exit(f"{{error.message}}|{{file.read_text()}}|{{len(list(file.parent.iterdir()))}}")
"""
    mount = f'mount -t tmpfs -o size=8k tmpfs "{tmp_path}" || exit 77; exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    assert done.stderr.strip() == f"can't write {tmp_path}/file: No space left on device|old|1"
