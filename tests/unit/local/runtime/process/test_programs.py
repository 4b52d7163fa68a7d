from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.local.runtime.process.programs import find_program


def test_a_name_that_no_folder_can_hold_is_no_program(tmp_path: Path) -> None:
    with pytest.raises(errors.StartError, match="no such program") as caught:
        find_program("x" * 300, {"PATH": "/usr/bin:/bin"}, tmp_path)
    assert caught.value.code == 127


def test_an_unreachable_folder_in_path_is_passed_over(tmp_path: Path) -> None:
    unreachable = tmp_path / ("d" * 200) / ("e" * 300)
    assert find_program("sh", {"PATH": f"{unreachable}:/bin"}, tmp_path) == "/bin/sh"
