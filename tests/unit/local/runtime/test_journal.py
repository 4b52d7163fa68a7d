from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime.values import ExitReason

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


@given(values=st.lists(_JSON, max_size=4), name=st.sampled_from(sorted(_WHOLE)), odd=_JSON)
def test_no_valid_json_makes_the_reader_fail(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], name: str, odd: Any
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    for text in ("\n".join(map(json.dumps, [*values, {**_WHOLE, name: odd}])), "[" * 100_000):
        assert isinstance(_journal(folder, text), journals.Journal)
