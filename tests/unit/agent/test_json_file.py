from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.agent.json_file import FollowedFile, read_json
from gpuyard.atomic_files import replace_file


def number(raw: Any) -> int:
    return int(raw["number"])


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", "null", '{"number": "x"}', '{"number": 1e999}', "[" * 9999]
)
def test_what_is_not_meant_is_the_file_s_fault(tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(errors.DeviceError, match=f"can't read {tmp_path}/file"):
        read_json(tmp_path / "file", number)


def test_without_a_file_nothing_is_said_and_a_folder_is_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "file", number) is None
    with pytest.raises(errors.DeviceError, match="directory"):
        read_json(tmp_path, number)


def test_a_file_is_read_again_once_it_is_another(tmp_path: Path) -> None:
    reads = []

    def read(path: Path) -> int | None:
        reads.append(path)
        return read_json(path, number)

    path = tmp_path / "file"
    file = FollowedFile(path, read)
    assert file.read() is None
    for value in (1, 2):
        replace_file(path, b'{"number": %d}' % value, mode=0o644, durable=False)
        assert [file.read() for _ in range(3)] == [value] * 3
    assert len(reads) == 3
    path.write_text("{")
    for _ in range(2):
        with pytest.raises(errors.DeviceError):
            file.read()
    path.unlink()
    assert file.read() is None
