from __future__ import annotations

import json
import os
import resource
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime.values import Exit, ExitReason

_AT = datetime(2026, 1, 31, tzinfo=UTC)
_INTENT = {
    "boot-id": "boot",
    "name": "uid_main_0",
    "isolation": "none",
    "started-at": "2026-01-31T12:00:00+00:00",
}
_STAT = "7 (sh) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"
_EXIT = {"code": 3, "reason": "Error", "message": "no", "finished-at": "2026-01-31T12:00:01+00:00"}
_WHOLE: dict[str, Any] = {
    **_INTENT, "stat": _STAT, "child-pid": 8, "pid-namespace": 9, "exit-code": 3, "exit": _EXIT,
}  # fmt: skip
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _journal(folder: Path, text: str) -> journals.Journal:
    path = folder / "journal"
    path.write_text(text)
    os.utime(path, (0, 0))
    return _read(path)


def _read(path: Path) -> journals.Journal:
    found = journals.read(path)
    assert found is not None
    return found


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = _journal(tmp_path, "\n".join(json.dumps({name: value}) for name, value in _WHOLE.items()))
    assert (found.boot_id, found.name, found.exit_code, found.init_pid) == ("boot", "uid_main_0", 3, 8)
    assert found.started_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert found.started is not None
    assert (found.started.pid, found.started.start_ticks) == (7, 4711)
    assert found.exit is not None
    assert (found.exit.code, found.exit.reason) == (3, ExitReason.ERROR)


@pytest.mark.parametrize("name", sorted(_WHOLE))
@pytest.mark.parametrize("value", [None, [], {}, 1.5, True, -1])
def test_a_member_of_another_type_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, value: object
) -> None:
    without = {other: kept for other, kept in _WHOLE.items() if other != name}
    assert _journal(tmp_path, json.dumps({**_WHOLE, name: value})) == _journal(tmp_path, json.dumps(without))
    assert repr(name) in caplog.text


@pytest.mark.parametrize("name", sorted(_WHOLE))
@pytest.mark.parametrize("value", ["1e400", "5.5", "-1", "{}", '"\\ud800"'])
def test_a_later_value_that_cannot_be_read_leaves_the_earlier_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    assert _journal(tmp_path, f'{json.dumps(_WHOLE)}\n{{"{name}": {value}}}\n') == _journal(
        tmp_path, json.dumps(_WHOLE)
    )
    assert repr(name) in caplog.text


@pytest.mark.parametrize(
    "middle",
    ["[" * 200_000 + "{" * 200_000, '{"exit":' * 100_000, "{\n" * 200_000, '{"stat": 5}\n' * 50_000],
    ids=["brackets", "nested", "lines", "values"],
)
def test_no_flood_hides_what_is_written_around_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, middle: str
) -> None:
    """Each try to read from another brace would cost the whole rest of the file."""
    end = json.dumps({"exit": _WHOLE["exit"]})
    start = json.dumps({name: value for name, value in _WHOLE.items() if name != "exit"})
    assert _journal(tmp_path, f"{start}\n{middle}\n{end}") == _journal(tmp_path, json.dumps(_WHOLE))
    assert caplog.text.count("\n") <= 1, "a warning for each value would flood the daemon's log"


def test_a_file_that_fits_into_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text(json.dumps(_WHOLE))
    os.truncate(path, 1 << 40)
    assert (_read(path).name, _read(path).exit_code) == ("uid_main_0", 3)


@given(values=st.lists(_JSON, max_size=4), name=st.sampled_from(sorted(_WHOLE)), odd=_JSON)
def test_no_valid_json_makes_the_reader_fail(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], name: str, odd: Any
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    for text in ("\n".join(map(json.dumps, [*values, {**_WHOLE, name: odd}])), "[" * 100_000):
        assert isinstance(_journal(folder, text), journals.Journal)


_LINES = [json.dumps({name: value}) for name, value in _WHOLE.items()]


@given(data=st.data(), own_line=st.booleans())
def test_what_is_torn_or_overwritten_costs_no_other_value(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, own_line: bool
) -> None:
    """A value that a crash or a full disk cut off, or zeros and the like in the middle."""
    at = data.draw(st.integers(0, len(_LINES) - 1))
    torn = data.draw(st.integers(0, len(_LINES[at]) - 1).map(lambda end: _LINES[at][:end].encode()))
    garbage = data.draw(st.sampled_from([torn, torn[::-1], bytes(64), b"[{" * 9, b'{"'])) or data.draw(
        st.binary(max_size=20)
    )
    before, after = ("\n".join(lines).encode() for lines in (_LINES[:at], _LINES[at + 1 :]))
    path = tmp_path_factory.mktemp("journal") / "journal"
    path.write_bytes(before + b"\n" + garbage + (b"\n" if own_line else b"") + after)
    name = list(_WHOLE)[at]
    without = {other: kept for other, kept in _WHOLE.items() if other != name}
    assert replace(_read(path), started_at=_AT, written_at=_AT) == replace(
        _journal(path.parent, json.dumps(without)), started_at=_AT, written_at=_AT
    )


def test_a_value_after_one_that_could_be_written_only_in_part(tmp_path: Path) -> None:
    """As where the file may not grow any more: a later value doesn't join what is there."""
    path = tmp_path / "journal"
    os.close(journals.create(path, boot_id="boot", name="name", isolation="none", started_at=_AT))
    end = Exit(3, ExitReason.ERROR, _AT, "no")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))
    try:
        with pytest.raises(errors.ProcessError, match="File too large"):
            journals.append_exit(path, end)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert _read(path).exit is None
    journals.append_exit(path, end)
    assert (_read(path).boot_id, _read(path).exit) == ("boot", end)
