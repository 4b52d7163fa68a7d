from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.agent.labels_file import read_labels, write_labels


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    assert read_labels(file) is None
    for labels in ({"a": "b"}, {}):
        write_labels(file, labels)
        assert read_labels(file) == labels
    # The reader is another user.
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "{"])
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "labels.json"
    file.write_text(text)
    with pytest.raises(errors.DeviceError, match=r"labels\.json"):
        read_labels(file)


def test_a_folder_that_isnt_there(tmp_path: Path) -> None:
    with pytest.raises(errors.DeviceError, match="can't write the labels"):
        write_labels(tmp_path / "no" / "labels.json", {})
