from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.cli.output.log_output import LogOutput


def printed(pieces: list[tuple[int, bytes]], capsysbinary: pytest.CaptureFixture[bytes]) -> bytes:
    output = LogOutput()
    for rank, piece in pieces:
        output.write_rank(rank, piece, str(rank))
    for rank in sorted({rank for rank, _ in pieces}):
        output.end_rank(rank, str(rank))
    return capsysbinary.readouterr().out


def test_lines_stay_whole_however_they_come(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    pieces = [(0, b"a"), (1, b"x\ny"), (0, b"b\nc\n"), (1, b"z\n"), (0, b"end")]
    assert printed(pieces, capsysbinary) == b"[1] x\n[0] ab\n[0] c\n[1] yz\n[0] end\n"


def test_a_progress_bar_is_written_again_in_its_line(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    pieces = [(0, b"10%\r20%\r"), (1, b"loss\n"), (0, b"100%\r\n")]
    assert printed(pieces, capsysbinary) == b"[0] 10%\r[0] 20%\r[1] loss\n[0] 100%\r\n"


@given(st.lists(st.tuples(st.integers(0, 2), st.text("ab\n\r", max_size=5)), max_size=12))
def test_nothing_is_lost_or_out_of_a_rank_s_order(pieces: list[tuple[int, str]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        found: list[bytes] = []
        output = LogOutput()
        patch.setattr(output, "write", found.append)
        for rank, text in pieces:
            output.write_rank(rank, text.encode(), str(rank))
        for rank in range(3):
            output.end_rank(rank, str(rank))
    lines = [line for line in b"".join(found).replace(b"\r", b"\n").split(b"\n") if line.startswith(b"[")]
    for rank in range(3):
        prefix = b"[%d] " % rank
        said = "".join(text for other, text in pieces if other == rank).replace("\r", "\n")
        own = [line.removeprefix(prefix).decode() for line in lines if line.startswith(prefix)]
        assert [line for line in own if line] == [line for line in said.split("\n") if line]
