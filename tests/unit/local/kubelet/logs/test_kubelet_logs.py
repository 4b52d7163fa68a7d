from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.client.log_place import LOG_FRAMES, Gap, LogOptions, OffsetPlace
from gpuyard.local.kubelet.logs.kubelet_logs import KubeletLogs
from gpuyard.local.kubelet.logs.log_file import next_data, start_of_tail
from gpuyard.local.objects.pod_logs import PodLogOptions
from tests.waiting import until_async

POD: dict[str, Any] = {"metadata": {"name": "p", "uid": "u"}}
#: A fraction that a float has exactly, as `utime` takes one.
NOW = datetime.now(UTC).replace(microsecond=500_000)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "u/main/0/log"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"one\ntwo\nthree\n")
    yield path


async def _read(log: Path, now: datetime = NOW, **options: Any) -> bytes:
    logs = KubeletLogs(log.parents[3], lambda: now)
    pieces = (await logs.open_log(POD, "main", PodLogOptions(**options))).pieces
    return b"".join([piece async for piece in pieces])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, b"one\ntwo\nthree\n"),
        ({"tail_lines": 0}, b""),
        ({"tail_lines": 1}, b"three\n"),
        ({"tail_lines": 2}, b"two\nthree\n"),
        ({"tail_lines": 3}, b"one\ntwo\nthree\n"),
        ({"tail_lines": 9}, b"one\ntwo\nthree\n"),
        ({"limit_bytes": 5}, b"one\nt"),
        ({"limit_bytes": 0}, b""),
        ({"limit_bytes": 99}, b"one\ntwo\nthree\n"),
        ({"tail_lines": 2, "limit_bytes": 3}, b"two"),
        ({"follow": True, "limit_bytes": 4}, b"one\n"),
    ],
)
async def test_options(log: Path, options: dict[str, Any], expected: bytes) -> None:
    assert await _read(log, **options) == expected


async def test_since(log: Path) -> None:
    assert await _read(log, now=NOW + timedelta(hours=1), since_s=60) == b""
    assert await _read(log, now=NOW + timedelta(hours=1), since_s=7200) == b"one\ntwo\nthree\n"


async def _print(logs: KubeletLogs, log: Path, text: bytes, ago: timedelta) -> None:
    """Output of so long ago, seen by a look."""
    with log.open("ab") as file:
        file.write(text)
    os.utime(log, ((NOW - ago).timestamp(),) * 2)
    opened = await logs.open_log(POD, "main", PodLogOptions(tail_lines=0, timestamps=True))
    await opened.pieces.aclose()


async def _printed(log: Path) -> KubeletLogs:
    """Of a container that goes on: one, two, three as it began, four after an hour, five without an end."""
    logs = KubeletLogs(log.parents[3], lambda: NOW)
    log.with_name("journal").write_text('{"boot-id": "b", "name": "n"}\n')
    for text, hours in ((b"", 3), (b"four\n", 2), (b"fi\rve", 1)):
        await _print(logs, log, text, timedelta(hours=hours))
    return logs


async def _read_of(logs: KubeletLogs, **options: Any) -> bytes:
    opened = await logs.open_log(POD, "main", PodLogOptions(**options))
    return b"".join([piece async for piece in opened.pieces])


def _stamp(hours: int) -> bytes:
    return f"{NOW - timedelta(hours=hours):%Y-%m-%dT%H:%M:%S.%f}000Z ".encode()


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_lines_have_the_times_at_which_they_were_written(log: Path, is_restarted: bool) -> None:
    """Also to the next yard."""
    logs = await _printed(log)
    if is_restarted:
        logs = KubeletLogs(log.parents[3], lambda: NOW)
    three, two, one = _stamp(3), _stamp(2), _stamp(1)
    dated = [three + b"one\n", three + b"two\n", three + b"three\n", two + b"four\n", one + b"fi\rve"]
    assert (await _read_of(logs, timestamps=True)).splitlines(keepends=True) == b"".join(dated).splitlines(
        keepends=True
    )
    assert await _read_of(logs, timestamps=True, tail_lines=2) == dated[3] + dated[4]
    assert await _read_of(logs) == b"one\ntwo\nthree\nfour\nfi\rve"


async def test_only_what_is_newer(log: Path) -> None:
    logs = await _printed(log)
    text = b"one\ntwo\nthree\nfour\nfi\rve"
    for minutes, at in ((200, 0), (150, 14), (90, 19), (30, len(text))):
        assert await _read_of(logs, since_s=minutes * 60) == text[at:]
        assert await _read_of(logs, since=NOW - timedelta(minutes=minutes)) == text[at:]
    assert await _read_of(logs, since_s=9000, tail_lines=1) == b"fi\rve"


async def test_a_line_belongs_to_when_it_began(log: Path) -> None:
    """Its end, which came later, doesn't stand alone; and it has one time."""
    logs = await _printed(log)
    await _print(logs, log, b"!\nsix\n", timedelta(minutes=10))
    assert await _read_of(logs, since_s=30 * 60) == b"six\n"
    dated = await _read_of(logs, since_s=5400, timestamps=True)
    now = f"{NOW - timedelta(minutes=10):%Y-%m-%dT%H:%M:%S.%f}000Z ".encode()
    assert dated == _stamp(1) + b"fi\rve!\n" + now + b"six\n"


async def test_a_follower_gets_a_line_s_time_once_and_its_parts_as_they_come(log: Path) -> None:
    logs = await _printed(log)
    opened = await logs.open_log(POD, "main", PodLogOptions(follow=True, timestamps=True, tail_lines=1))
    assert await anext(opened.pieces) == _stamp(1) + b"fi\rve"
    with log.open("ab") as file:
        file.write(b"\r 10%")
    assert await anext(opened.pieces) == b"\r 10%"
    logs.end(log.parent)
    async with asyncio.timeout(60):
        assert [piece async for piece in opened.pieces] == []


async def test_frames_have_times_where_they_are_asked_for(log: Path) -> None:
    logs = await _printed(log)
    for times in (False, True):
        place = OffsetPlace(LogOptions(timestamps=times))
        opened = await logs.open_log(POD, "main", PodLogOptions(in_frames=True, timestamps=times))
        place.begin({"content-type": LOG_FRAMES})
        found = [one async for piece in opened.pieces for one in place.fresh(piece)]
        assert b"".join(one for one in found if isinstance(one, bytes)) == await _read_of(
            logs, timestamps=times
        )


async def test_a_line_that_the_hole_took_the_front_of_is_dated_as_a_line(log: Path) -> None:
    log.write_bytes(_numbered(4096))
    drop_front(log, 64 << 10)
    lines = (await _read(log, timestamps=True)).splitlines()
    assert len({line.split(b" ")[0] for line in lines}) == 1
    assert [int(line.split(b" ")[1]) for line in lines] == list(range(4096 - len(lines), 4096))


async def test_looks_are_taken_of_what_runs(log: Path) -> None:
    logs = KubeletLogs(log.parents[3], lambda: NOW)
    looking = asyncio.create_task(logs.run())
    times = log.with_name("log-times")
    try:
        await asyncio.sleep(0)
        assert not times.exists()
        with logs.dating(log.parent):
            await until_async(times.exists, "the log was looked at")
            with log.open("ab") as file:
                file.write(b"last words\n")
        assert times.stat().st_size in (32, 48)
    finally:
        looking.cancel()


async def test_bytes_pass_unchanged(log: Path) -> None:
    text = bytes(range(256)) * 1000 + b"\n" + b"x" * 300_000
    log.write_bytes(text)
    assert await _read(log) == text
    assert await _read(log, tail_lines=1) == b"x" * 300_000


async def test_a_start_without_a_log_is_empty(log: Path) -> None:
    log.unlink()
    assert await _read(log) == b""


@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "socket"])
@pytest.mark.parametrize("name", ["log", "journal"])
async def test_only_a_file_is_read(log: Path, kind: str, name: str) -> None:
    """A run may put anything in its place, and a FIFO would block the whole event loop."""
    path = log.with_name(name)
    path.unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to("/etc/passwd")
        elif kind == "folder":
            path.mkdir()
        else:
            stack.enter_context(contextlib.chdir(path.parent))
            stack.enter_context(socket.socket(socket.AF_UNIX)).bind(name)
        with pytest.raises((errors.InternalError, errors.ProcessError), match="can't read"):
            await _read(log, follow=True)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ({"phase": "Pending"}, 'container "other" in pod "p" is waiting to start: ContainerCreating'),
        (
            {"containerStatuses": [{"name": "other", "state": {"waiting": {"reason": "PodInitializing"}}}]},
            "is waiting to start: PodInitializing",
        ),
        (
            {"containerStatuses": [{"name": "other", "state": {"terminated": {"message": "no bash"}}}]},
            "couldn't be started: no bash",
        ),
        ({"phase": "Failed", "reason": "OutOfcpu", "message": "too much"}, "never started: too much"),
    ],
)
async def test_no_log_says_why(log: Path, status: dict[str, Any], text: str) -> None:
    logs = KubeletLogs(log.parents[3], lambda: NOW)
    with pytest.raises(errors.BadRequest, match=text):
        await logs.open_log({**POD, "status": status}, "other", PodLogOptions())


@given(
    text=st.lists(st.sampled_from([b"a", b"bb", b"\n", b"x" * 70_000])).map(b"".join), lines=st.integers(0, 6)
)
def test_tail_is_the_last_lines(text: bytes, lines: int) -> None:
    descriptor = os.memfd_create("log")
    try:
        os.write(descriptor, text)
        kept = text.splitlines(keepends=True)[-lines:] if lines else []
        assert text[start_of_tail(descriptor, lines) :] == b"".join(kept)
    finally:
        os.close(descriptor)


def drop_front(log: Path, keep_bytes: int) -> None:
    """As a log's copier does while the log grows."""
    length = (log.stat().st_size - keep_bytes) // 4096 * 4096
    subprocess.run(["fallocate", "-p", "-o", "0", "-l", str(length), str(log)], check=True)


def _numbered(count: int) -> bytes:
    return b"".join(b"%063d\n" % number for number in range(count))


def test_the_front_is_dropped_and_offsets_stay(log: Path) -> None:
    text = _numbered(4096)
    log.write_bytes(text)
    drop_front(log, 64 << 10)
    assert log.stat().st_size == len(text)
    assert log.stat().st_blocks * 512 <= 72 << 10
    descriptor = os.open(log, os.O_RDONLY)
    try:
        begin = next_data(descriptor, 0)
        assert os.pread(descriptor, len(text), begin) == text[begin:]
        assert begin % 64 == 0
        assert 60 << 10 <= len(text) - begin <= 68 << 10
        assert next_data(descriptor, begin + 5) == begin + 5
        assert next_data(descriptor, len(text)) == len(text)
    finally:
        os.close(descriptor)


async def test_reading_starts_behind_the_hole(log: Path) -> None:
    text = _numbered(4096)
    log.write_bytes(text)
    drop_front(log, 64 << 10)
    kept = await _read(log)
    assert text.endswith(kept)
    assert len(kept) > 60 << 10
    assert await _read(log, tail_lines=10**6) == kept


async def test_what_is_newer_is_not_looked_for_in_the_hole(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = await _printed(log)
    with log.open("ab") as file:
        file.truncate(32 << 20)
        file.seek(0, os.SEEK_END)
        file.write(_numbered(4096))
    drop_front(log, 64 << 10)
    kept, reads, pread = await _read_of(logs), 0, os.pread

    def counting(descriptor: int, length: int, position: int) -> bytes:
        nonlocal reads
        reads += 1
        return pread(descriptor, length, position)

    monkeypatch.setattr(os, "pread", counting)
    assert await _read_of(logs, since_s=5400) == kept
    assert reads < 20


async def test_a_reader_that_is_overtaken_by_the_hole_goes_on_behind_it(log: Path) -> None:
    text = b"odd\n" + _numbered(8192)
    log.write_bytes(text)
    logs = KubeletLogs(log.parents[3], lambda: NOW)
    pieces = (await logs.open_log(POD, "main", PodLogOptions())).pieces
    first = await anext(pieces)
    assert not first.endswith(b"\n")
    drop_front(log, 64 << 10)
    rest = b"".join([piece async for piece in pieces])
    assert text.startswith(first)
    # The line that was cut ends here.
    assert rest.startswith(b"\n") and text.endswith(b"\n" + rest[1:])
    assert rest
    assert b"\0" not in rest
    assert len(rest) < 80 << 10


async def test_frames_say_what_is_missing(log: Path) -> None:
    """To a reader from the beginning, also where the hole overtakes it."""
    text = _numbered(8192)
    log.write_bytes(text)
    drop_front(log, 256 << 10)
    opened = await KubeletLogs(log.parents[3], lambda: NOW).open_log(
        POD, "main", PodLogOptions(in_frames=True)
    )
    place = OffsetPlace()
    place.begin({"content-type": LOG_FRAMES})
    found = place.fresh(await anext(opened.pieces))
    drop_front(log, 64 << 10)
    async for piece in opened.pieces:
        found += place.fresh(piece)
    gaps = [one for one in found if isinstance(one, Gap)]
    printed = [one for one in found if isinstance(one, bytes)]
    dropped = [int(gap.text.removeprefix("(").split()[0]) for gap in gaps]
    assert len(gaps) == 2 and found[0] == gaps[0]
    assert sum(dropped) + len(b"".join(printed)) == len(text)
    assert text[dropped[0] :].startswith(printed[0]) and text.endswith(printed[-1])


def test_one_endless_line_is_torn_rather_than_lost(log: Path) -> None:
    log.write_bytes(b"x" * (1 << 20))
    drop_front(log, 64 << 10)
    descriptor = os.open(log, os.O_RDONLY)
    try:
        begin = next_data(descriptor, 0)
        assert 0 < (1 << 20) - begin <= 72 << 10
    finally:
        os.close(descriptor)


async def test_where_the_first_piece_begins(log: Path) -> None:
    logs = KubeletLogs(log.parents[3], lambda: NOW)
    text = _numbered(8192)
    log.write_bytes(text)
    for options in (PodLogOptions(), PodLogOptions(tail_lines=3), PodLogOptions(tail_lines=0)):
        opened = await logs.open_log(POD, "main", options)
        assert opened.offset is not None
        assert b"".join([piece async for piece in opened.pieces]) == text[opened.offset :]
    drop_front(log, 64 << 10)
    opened = await logs.open_log(POD, "main", PodLogOptions())
    assert opened.offset
    assert b"".join([piece async for piece in opened.pieces]) == text[opened.offset :]


_WRITE = """
import os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for number in range(int(sys.argv[2])):
    os.write(log, b"%d\\n" % number)
with open(sys.argv[3], "a") as journal:
    journal.write('{"exit": {"code": 0, "reason": "Completed", "message": "", '
                  '"finished-at": "2026-01-01T00:00:00+00:00"}}')
"""


async def test_a_reader_at_the_heels_of_a_fast_writer_misses_nothing(log: Path) -> None:
    log.write_bytes(b"")
    journal = log.with_name("journal")
    journal.touch()
    count = 200_000
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WRITE, str(log), str(count), str(journal)
    )
    followed = await _read(log, follow=True)
    assert await writer.wait() == 0
    # Not by lines: a difference of this length takes pytest minutes to show.
    assert (followed == b"".join(b"%d\n" % number for number in range(count))) is True


async def test_a_followed_log_ends_where_the_journal_can_not_be_told(log: Path) -> None:
    """The disk was full as the container ended."""
    journal = log.with_name("journal")
    journal.write_text('{"boot-id": "b", "name": "n"}\n')
    logs = KubeletLogs(log.parents[3], lambda: NOW)
    pieces = (await logs.open_log(POD, "main", PodLogOptions(follow=True))).pieces
    assert await anext(pieces) == b"one\ntwo\nthree\n"
    logs.end(log.parent)
    async with asyncio.timeout(60):
        assert [piece async for piece in pieces] == []


async def test_a_log_that_nobody_reads_holds_nothing_once_it_is_closed(log: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    opened = await KubeletLogs(log.parents[3], lambda: NOW).open_log(POD, "main", PodLogOptions())
    await opened.pieces.aclose()
    assert len(os.listdir("/proc/self/fd")) == before
