from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.agent.marks_file import NodeMarks, read_marks, write_marks


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "marks.json"
    assert read_marks(file) is None
    for marks in (
        NodeMarks({"a": "b"}, {"c": "d"}, {"e": {"f": "g"}}, {"GPU-1": {"replicas": "2"}}),
        NodeMarks(),
    ):
        write_marks(file, marks)
        assert read_marks(file) == marks
    # The reader is another user.
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{", "{}", '{"labels": {}, "annotations": {}}'),
        '{"labels": {"a": 1}, "annotations": {}, "problems": {}, "gpus": {}}',
        '{"labels": [], "annotations": {}, "problems": {}, "gpus": {}}',
        '{"labels": {}, "annotations": {}, "problems": [], "gpus": {}}',
        '{"labels": {}, "annotations": {}, "problems": {"a": "b"}, "gpus": {}}',
        '{"labels": {}, "annotations": {}, "problems": {}, "gpus": {"a": {"b": 2}}}',
        r'{"labels": {}, "annotations": {"a": "\ud800"}, "problems": {}, "gpus": {}}',
        r'{"labels": {}, "annotations": {}, "problems": {"a": {"\ud800": ""}}, "gpus": {}}',
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "marks.json"
    file.write_text(text)
    with pytest.raises(errors.DeviceError, match=r"marks\.json"):
        read_marks(file)


def test_a_folder_that_isnt_there(tmp_path: Path) -> None:
    with pytest.raises(errors.DeviceError, match="can't write the node's marks"):
        write_marks(tmp_path / "no" / "marks.json", NodeMarks())
