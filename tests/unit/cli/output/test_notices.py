from __future__ import annotations

import pytest

from gpuyard.cli.output.notices import print_notice
from gpuyard.runs.notices import Notice, NoticeKind


@pytest.mark.parametrize(
    ("kind", "printed"),
    [
        (NoticeKind.NOTE, "it goes on\n"),
        (NoticeKind.WARNING, "Warning: it goes on\n"),
        (NoticeKind.INTERRUPT, "\nit goes on\n"),
    ],
)
def test_each_kind_on_standard_error(
    kind: NoticeKind, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_notice(Notice("it goes on", kind))
    assert capsys.readouterr() == ("", printed)
