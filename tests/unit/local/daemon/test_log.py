"""The daemon's own log stays small."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuyard.local.daemon.log import BoundedHandler, RepeatFilter


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "daemon.log"


@pytest.fixture
def descriptor(file: Path) -> Iterator[int]:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    yield descriptor
    os.close(descriptor)


def record(text: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("part", logging.ERROR, "", 0, text, arguments, None)


def test_the_newest_lines_are_kept(file: Path, descriptor: int) -> None:
    handler = BoundedHandler(descriptor, max_bytes=10_000, kept_bytes=5_000)
    largest = 0
    for number in range(5_000):
        handler.handle(record("line %d", number))
        largest = max(largest, file.stat().st_size)
    first, *lines = file.read_text().splitlines()
    assert first == "... older lines were dropped here"
    numbers = [int(line.removeprefix("line ")) for line in lines]
    assert numbers == list(range(numbers[0], 5_000))  # whole lines, none between them lost
    assert len(numbers) > 100
    assert largest <= 10_000


def test_what_others_write_to_the_same_file_counts_and_stays(file: Path, descriptor: int) -> None:
    other = os.open(file, os.O_WRONLY | os.O_APPEND)
    os.write(other, b"old\n" * 5_000)
    handler = BoundedHandler(descriptor, max_bytes=10_000, kept_bytes=5_000)
    assert file.stat().st_size < 5_100
    os.write(other, b"the agent's\n")
    handler.handle(record("ours"))
    os.close(other)
    assert file.read_text().endswith("old\nthe agent's\nours\n")


def test_a_file_that_can_only_be_written_is_bounded_too(file: Path) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    handler = BoundedHandler(descriptor, max_bytes=1_000, kept_bytes=500)
    for number in range(1_000):
        handler.handle(record("line %d", number))
    os.close(descriptor)
    assert file.stat().st_size <= 1_000


def test_the_same_line_is_written_once_a_minute() -> None:
    now = 0.0
    repeats = RepeatFilter(lambda: now)
    assert repeats.filter(record("it broke: %s", "a"))
    assert [repeats.filter(record("it broke: %s", "a")) for _ in range(1_000)].count(True) == 0
    assert repeats.filter(record("it broke: %s", "b"))
    now = 61.0
    again = record("it broke: %s", "a")
    assert repeats.filter(again)
    assert again.getMessage() == "it broke: a (and 1000 times more before)"
    now = 122.0
    last = record("it broke: %s", "a")
    assert repeats.filter(last)
    assert last.getMessage() == "it broke: a"
