from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.runs.notices import NoticeKind
from gpuyard.runs.submitting.spec_file import read_spec_file, unexpanded
from gpuyard.workloads.spec.overrides import Flag, FlagForm


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"run: [true]\n",))
    writer.start()
    assert read_spec_file(tmp_path / "pipe") == b"run: [true]\n"
    writer.join(60)


def test_what_is_not_there_is_named_with_what_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match=r"can't read .*missing: No such file") as caught:
        read_spec_file(tmp_path / "missing", "a file of K=V")
    assert caught.value.remedy == "name a file of K=V that is there"


def test_what_never_ends_is_not_read_to_its_end() -> None:
    with pytest.raises(errors.UsageError, match="/dev/zero has more than 4 MiB"):
        read_spec_file(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("content", "is_one"),
    [
        ("# syntax=docker/dockerfile:1\n\nFROM python:3.11\nRUN pip install x\n", True),
        ("ARG VERSION=3.11\nfrom python:$VERSION\n", True),
        ("# a spec\nrun: from x\n", False),
        ("from: x\n", False),
        ("", False),
    ],
)
def test_a_dockerfile_is_known_for_what_it_is(tmp_path: Path, content: str, is_one: bool) -> None:
    file = tmp_path / "spec"
    file.write_text(content)
    if not is_one:
        assert read_spec_file(file) == content.encode()
        return
    with pytest.raises(errors.UsageError, match="is a Dockerfile") as caught:
        read_spec_file(file)
    (page,) = re.findall(r"docs/\S+\.md", caught.value.remedy)
    assert (Path(__file__).parents[4] / page).is_file()


def test_a_variable_in_a_value_that_nothing_expands_is_told() -> None:
    env = FlagForm.ENTRY_OR_KEY
    flags = [
        Flag(".env:3", ("env",), "PATH=$PATH:/secret", env),
        Flag("--env", ("env",), "DATA=${HOME}/secret", env),
        Flag("env['CACHE']", ("env", "CACHE"), "$HOME/secret"),
        # What passwords and formats look like, what stands alone, and what is no value of env.
        *(
            Flag("--env", ("env",), f"A={value}", env)
            for value in ("pa$word", "$5", "a$", "$$", "$(HOME)", "")
        ),
        Flag("--env", ("env",), "$HOME", env),
        Flag("env['B']", ("env", "B"), None),
        Flag("the command", ("run",), "echo $HOME"),
    ]
    told = list(unexpanded(flags))
    assert [notice.text.partition(" has ")[0] for notice in told] == [
        ".env:3: the value of PATH",
        "--env: the value of DATA",
        "env['CACHE']: the value of CACHE",
    ]
    assert {notice.kind for notice in told} == {NoticeKind.WARNING}
    assert "secret" not in str(told)
