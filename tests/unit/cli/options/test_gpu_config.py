import json
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.cli.options.gpu_config import read_gpu_config

CONFIG = """\
version: v1
sharing:
  timeSlicing:
    renameByDefault: true
    resources:
    - name: nvidia.com/gpu
      devices: [0, 1]
      replicas: 4
"""


def test_yaml_becomes_what_the_agent_takes(tmp_path: Path) -> None:
    (tmp_path / "gpus.yaml").write_text(CONFIG)
    read = json.loads(read_gpu_config(tmp_path / "gpus.yaml"))
    assert read["sharing"]["timeSlicing"]["resources"] == [
        {"name": "nvidia.com/gpu", "devices": [0, 1], "replicas": 4}
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: [", "can't read"),
        ("\xff", "the file must be a mapping"),
        ("version: v2\n", "version must be v1"),
        (
            CONFIG.replace("replicas: 4", "replicas: 1"),
            r"sharing.timeSlicing.resources\[0\].replicas must be",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "gpus.yaml").write_text(text)
    with pytest.raises(errors.UsageError, match=said) as caught:
        read_gpu_config(tmp_path / "gpus.yaml")
    assert str(tmp_path / "gpus.yaml") in caught.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="No such file"):
        read_gpu_config(tmp_path / "none.yaml")
