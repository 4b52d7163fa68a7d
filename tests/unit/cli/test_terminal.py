from __future__ import annotations

import pytest

from gpuyard.cli.terminal import DetachKeys


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ([b"ls\n", b"q"], [b"ls\n", b"q"], False),
        ([b"\x10\x11"], [b""], True),
        ([b"ab\x10\x11cd"], [b"ab"], True),
        ([b"\x10", b"\x11"], [b"", b""], True),
        ([b"a\x10", b"b"], [b"a", b"\x10b"], False),
        ([b"\x10", b"\x10", b"\x11"], [b"", b"\x10", b""], True),
        ([b"\x11\x10"], [b"\x11"], False),
    ],
)
def test_ctrl_p_ctrl_q_detaches_and_anything_else_is_typed(
    typed: list[bytes], passed: list[bytes], detached: bool
) -> None:
    keys = DetachKeys()
    assert [keys.pass_on(each) for each in typed] == passed
    assert keys.are_typed is detached
