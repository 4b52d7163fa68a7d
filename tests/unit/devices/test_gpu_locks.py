import fcntl
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpuyard import errors
from gpuyard.devices.gpu_locks import GpuLocks, find_lock_folder, gpu_of, user_name, yard_holds
from tests.small_disk import mounted
from tests.waiting import until

NOW = datetime(2026, 11, 29, 14, 2, tzinfo=UTC)
GPU, OTHER = "GPU-1", "GPU-1-2"
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")


def yard(folder: Path, home: str) -> GpuLocks:
    return GpuLocks(folder, Path(home), lambda: NOW)


@pytest.fixture
def folder() -> Iterator[Path]:
    """As /run/lock is; no other user may look into those of pytest."""
    with tempfile.TemporaryDirectory(prefix="gy-lock-", dir="/tmp") as made:
        Path(made).chmod(0o1777)
        yield Path(made)


def homes(folder: Path, gpu: str = GPU) -> list[str]:
    return [hold.home for hold in yard_holds(folder, [gpu]).get(gpu, ())]


def test_two_homes_never_have_the_same_gpu(folder: Path) -> None:
    with closing(yard(folder, "/a")) as one, closing(yard(folder, "/b")) as other:
        one.take(GPU, "train")
        user = yard_holds(folder, [GPU])[GPU][0].user
        with pytest.raises(errors.GpuHeld) as refused:
            other.take(GPU, "mine")
        assert refused.value.gpu == GPU
        assert refused.value.message == (
            f"GPU {GPU} is held by the yard of {user} (/a), run train, since 2026-11-29 14:02 UTC"
        )
        other.take(OTHER, "mine")
        one.take(GPU, "again, which it has")
        one.release(GPU)
        other.take(GPU, "mine")
        assert (homes(folder), homes(folder, OTHER)) == (["/b"], ["/b"])


def test_a_lock_ends_with_the_last_process_that_holds_it(folder: Path) -> None:
    script = "import sys; print(flush=True); sys.stdin.read()"
    one = yard(folder, "/a")
    one.take(GPU, "train")
    held = one.descriptors([GPU, OTHER])
    assert len(held) == 1
    assert held[0] >= 10
    run = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, pass_fds=held)
    one.close()
    with run, closing(yard(folder, "/b")) as other:
        with pytest.raises(errors.GpuHeld):
            other.take(GPU, "mine")
        run.kill()
        run.wait()
        other.take(GPU, "mine")
        assert homes(folder) == ["/b"]


def test_the_next_process_of_a_yard_takes_what_its_run_has_and_can_release_it(folder: Path) -> None:
    first = yard(folder, "/a")
    first.take(GPU, "train")
    # The run's own descriptor, which outlives its yard's.
    escaped = os.dup(first.descriptors([GPU])[0])
    first.close()
    with closing(yard(folder, "/a")) as second, closing(yard(folder, "/b")) as other:
        second.take(GPU, "train")
        second.release(GPU)
        other.take(GPU, "mine")
        assert homes(folder) == ["/b"]
    os.close(escaped)


def test_a_yard_whose_lock_went_with_its_run_does_not_take_it_back_from_another(folder: Path) -> None:
    yard(folder, "/a").take(GPU, "train")  # its descriptor stays open: the run goes on
    with closing(yard(folder, "/b")) as other, pytest.raises(errors.GpuHeld):
        other.take(GPU, "mine")


def killed_yard(folder: Path) -> None:
    """A yard that takes a GPU and is killed."""
    script = (
        "import os, sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from gpuyard.devices.gpu_locks import GpuLocks\n"
        "GpuLocks(Path(sys.argv[1]), Path('/killed'), lambda: datetime.now(UTC)).take('GPU-1', 'train')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], check=False)
    assert done.returncode == -signal.SIGKILL


def test_what_a_killed_yard_leaves_is_in_nobodys_way_and_is_removed(folder: Path) -> None:
    killed_yard(folder)
    assert len(list(folder.iterdir())) == 1
    assert homes(folder) == []
    with closing(yard(folder, "/b")) as other:
        other.take(GPU, "mine")
        assert homes(folder) == ["/b"]
        assert len(list(folder.iterdir())) == 1


def test_left_overs_of_gpus_that_nobody_takes_go_too(folder: Path) -> None:
    killed_yard(folder)
    old, new = folder / ".gpuyard-new.1", folder / ".gpuyard-new.2"
    for path in (old, new, folder / "others.lock"):
        path.touch()
    os.utime(old, (0, 0))
    with closing(yard(folder, "/a")) as one, closing(yard(folder, "/b")) as other:
        one.take("GPU-held", "train")
        assert homes(folder) == [] and not old.exists()
        other.take(OTHER, "mine")
        # What somebody holds stays, what may be about to be locked, and what isn't ours.
        assert homes(folder, "GPU-held") == ["/a"]
        assert new.exists() and (folder / "others.lock").exists()
        assert len(list(folder.glob("gpuyard.*"))) == 2


def test_of_many_at_the_same_moment_one_has_it(folder: Path) -> None:
    yards = [yard(folder, f"/{number}") for number in range(8)]

    def take(one: GpuLocks) -> bool:
        try:
            one.take(GPU, "train")
        except errors.GpuHeld:
            return False
        return True

    def owners() -> int:
        with ThreadPoolExecutor(len(yards)) as pool:
            got = sum(pool.map(take, yards))
        assert got <= 1
        assert len(homes(folder)) == got
        return got

    for _ in range(20):
        # All may step back from each other, and ask again then, as a yard does for a pod that waits.
        until(lambda: owners() == 1, "one of them has it")
        for one in yards:
            one.release(GPU)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("home", ["/" + "ü" * 100, "/h" * 1500, "/new\nline\x1b[2J", os.fsdecode(b"/\xff")])
def test_a_yard_knows_its_own_locks_whatever_its_home_is_called(folder: Path, home: str) -> None:
    run = "r\x00\U0001f600" * 2000
    first = yard(folder, home)
    first.take(GPU, run)
    with closing(first), closing(yard(folder, home)) as again, closing(yard(folder, home + "x")) as other:
        with pytest.raises(errors.GpuHeld):
            other.take(GPU, "mine")
        again.take(GPU, run)
        again.release(GPU)
        other.take(GPU, "mine")
        assert len(homes(folder)) == 1


def test_a_yard_that_has_no_descriptors_left_takes_nothing_and_leaves_nothing(folder: Path) -> None:
    script = (
        "import os, resource, sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from gpuyard import errors; from gpuyard.devices.gpu_locks import GpuLocks\n"
        "one = GpuLocks(Path(sys.argv[1]), Path('/few'), lambda: datetime.now(UTC))\n"
        "for most in range(3, 15):\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (most, 4096))\n"
        "    try: one.take('GPU-1', 'train')\n"
        "    except errors.CheckpointError: assert not os.path.exists('/proc/self/fd/10'), most\n"
        "    except errors.GpuHeld: print('held')\n"
    )
    with closing(yard(folder, "/a")) as holder:
        holder.take(GPU, "train")
        before = list(folder.iterdir())
        done = subprocess.run(
            [sys.executable, "-c", script, str(folder)], check=False, capture_output=True, text=True
        )
        assert done.stderr == ""
        assert "held" in done.stdout
        assert list(folder.iterdir()) == before


def test_a_folder_that_is_gone_is_said_so(folder: Path) -> None:
    with closing(yard(folder / "gone", "/a")) as one:
        with pytest.raises(errors.CheckpointError, match=f"that {GPU} is taken: No such file"):
            one.take(GPU, "train")
        one.release(GPU)


def test_others_files_that_nobody_holds_stand_in_nobodys_way(folder: Path) -> None:
    (folder / f"gpuyard.{GPU}.squatted").write_text(json.dumps({"home": "/x", "run": "r", "since": ""}))
    (folder / f"gpuyard.{GPU}.folder").mkdir()
    (folder / f"gpuyard.{GPU}.link").symlink_to("/etc/shadow")
    (folder / f"gpuyard.{GPU}.dangling").symlink_to("/nonexistent/file")
    os.mkfifo(folder / f"gpuyard.{GPU}.fifo")
    with closing(yard(folder, "/b")) as one:
        one.take(GPU, "mine")
        assert homes(folder) == ["/b"]


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"home": 3}', "\0\x1b[2J"])
def test_what_a_locked_file_says_may_be_anything(folder: Path, text: str) -> None:
    script = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'r+')\nfcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\nsys.stdin.read()"
    )
    path = folder / f"gpuyard.{GPU}.odd"
    path.write_text(text)
    with (
        subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder,
        closing(yard(folder, "/b")) as one,
    ):
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        (found,) = yard_holds(folder, [GPU])[GPU]
        assert all(map(str.isprintable, (found.home, found.run, found.since)))
        # It is held, whatever it says; and it isn't taken away from a yard of the same user.
        with pytest.raises(errors.GpuHeld):
            one.take(GPU, "mine")
        assert path.exists()
        one.take(OTHER, "mine")
        holder.kill()
        until(lambda: not yard_holds(folder, [GPU]), "its lock ends with it")
        one.take(GPU, "mine")


@contextmanager
def another_user() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@as_root
def test_another_user_can_neither_make_a_left_over_count_nor_take_a_lock_away(folder: Path) -> None:
    left = folder / f"gpuyard.{GPU}.left"
    with closing(yard(folder, "/b")) as one, ExitStack() as stack:
        one.take(OTHER, "mine")
        left.write_text(json.dumps({"home": "/root/a", "run": "train", "since": ""}))
        left.chmod(0o644)
        (own,) = folder.glob(f"gpuyard.{OTHER}.*")
        with another_user():
            for path in (left, own):
                # As much as one may lock a file that one may only read.
                file = stack.enter_context(path.open())
                fcntl.flock(file, fcntl.LOCK_EX)
                with suppress(BlockingIOError):  # of the one that is locked
                    read_lock = struct.pack("hhqqi0q", fcntl.F_RDLCK, 0, 0, 0, 0)
                    fcntl.fcntl(file, fcntl.F_OFD_SETLK, read_lock)
                with pytest.raises(PermissionError):
                    path.unlink()
                with pytest.raises(PermissionError):
                    path.open("r+")
            assert (homes(folder), homes(folder, OTHER)) == ([], ["/b"])
        assert (homes(folder), homes(folder, OTHER)) == ([], ["/b"])


@as_root
def test_a_user_who_locks_one_gpu_many_times_counts_once(folder: Path) -> None:
    with ExitStack() as stack:
        with another_user():
            for number in range(20):
                theirs = stack.enter_context((folder / f"gpuyard.{GPU}.{number}").open("w+"))
                fcntl.fcntl(theirs, fcntl.F_OFD_SETLK, struct.pack("hhqqi0q", fcntl.F_WRLCK, 0, 0, 0, 0))
        one = stack.enter_context(closing(yard(folder, "/b")))
        one.take(OTHER, "mine")
        holds = yard_holds(folder, [GPU, OTHER])
        assert [len(holds[gpu]) for gpu in (GPU, OTHER)] == [1, 1]
        with pytest.raises(errors.GpuHeld):
            one.take(GPU, "mine")


@as_root
def test_a_yard_is_its_files_owners_whatever_it_says(folder: Path) -> None:
    with closing(yard(folder, "/a")) as other, closing(yard(folder, "/a")) as one:
        with another_user():
            other.take(GPU, "train")
        with pytest.raises(errors.GpuHeld, match="yard of nobody"):
            one.take(GPU, "mine")
        one.release(GPU)
        with another_user():
            assert homes(folder) == ["/a"]
            other.release(GPU)
        one.take(GPU, "mine")


@as_root
def test_a_name_that_is_no_text_is_said_as_far_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    name = b"jos\xe9".decode(errors="surrogateescape")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: SimpleNamespace(pw_name=name[uid:]))
    assert (user_name(0), user_name(3)) == ("jos", "3")


def test_every_user_can_read_a_lock_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        with closing(yard(folder, "/a")) as one:
            one.take(GPU, "train")
            (file,) = folder.iterdir()
            assert stat.S_IMODE(file.stat().st_mode) == 0o644
    finally:
        os.umask(before)


def test_a_full_disk_gives_out_nothing() -> None:
    with mounted("tmpfs", 1) as disk, closing(yard(disk, "/a")) as one:
        with suppress(OSError), (disk / "full").open("wb", buffering=0) as full:
            for _ in range(1024):
                full.write(bytes(4096))
        with pytest.raises(errors.CheckpointError, match=f"that {GPU} is taken: No space left"):
            one.take(GPU, "train")
        (disk / "full").unlink()
        one.take(GPU, "train")
        assert homes(disk) == ["/a"]


def test_the_folder_is_the_first_that_everybody_shares(tmp_path: Path) -> None:
    uid = os.geteuid()
    modes = {"missing": None, "private": 0o755, "not-sticky": 0o777, "shared": 0o1777, "later": 0o1777}
    places = [tmp_path / name for name in modes]
    for place, mode in zip(places, modes.values(), strict=True):
        if mode is not None:
            place.mkdir()
            place.chmod(mode)
    places.insert(0, tmp_path / "link")
    places[0].symlink_to(tmp_path / "later")
    assert find_lock_folder(places, uid) == tmp_path / "shared"
    assert find_lock_folder(places, uid + 1) is None


def test_replicas_of_a_gpu_are_behind_one_lock() -> None:
    assert [gpu_of(one) for one in ("GPU-1", "GPU-1::3", "MIG-2")] == ["GPU-1", "GPU-1", "MIG-2"]
