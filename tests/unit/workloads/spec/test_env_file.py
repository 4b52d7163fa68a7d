from __future__ import annotations

import pytest

from gpuyard.errors import SpecError
from gpuyard.workloads.spec.env_file import parse_env_file
from gpuyard.workloads.spec.run_spec import load_spec
from tests.unit.workloads.flags import flags_of

FILE = b"""\
# comment
A=1
export B = two words
C="quoted # no comment"
D='$HOME ${HOME}'

E="
F=
G
H=a=b
"""


def env_of(content: bytes, shell: dict[str, str], spec: str = "run: x", **flags: tuple[str, ...]) -> object:
    laid = [*parse_env_file(content, ".env"), *flags_of(**flags)]
    return load_spec(spec, "gpuyard.yaml", laid, shell).env


def test_lines() -> None:
    assert env_of(FILE, {"G": "shell", "HOME": "/root"}) == {
        "A": "1", "B": "two words", "C": "quoted # no comment", "D": "$HOME ${HOME}",
        "E": '"', "F": "", "G": "shell", "H": "a=b",
    }  # fmt: skip


def test_it_wins_over_the_spec_and_flags_win_over_it() -> None:
    spec = "run: x\nenv: {A: spec, B: spec, C: spec}"
    assert env_of(b"A=file\nB=file", {}, spec, env=("A=flag",)) == {"A": "flag", "B": "file", "C": "spec"}
    assert env_of(b"A=1\r\nA=2\r\n", {}) == {"A": "2"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"A=1\n1B=2", ".env:2 1B: can't name an environment variable"),
        (b"\nCUDA_VISIBLE_DEVICES=0", ".env:2 CUDA_VISIBLE_DEVICES: is set by the allocation"),
        (b"TOKEN", ".env:1 TOKEN: has no value and isn't set in your shell"),
        (b"A=1\nB=\xff", ".env:2: encoding: isn't text in UTF-8"),
    ],
)
def test_mistakes_name_their_line(content: bytes, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        env_of(content, {})
    assert said in caught.value.message
