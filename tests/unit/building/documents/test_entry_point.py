from __future__ import annotations

import pytest

from gpuyard.building.documents.entry_point import entry_point
from gpuyard.building.environment import ENTRYPOINT
from gpuyard.images.oci import ContainerConfig

_NGC = ("/opt/nvidia/nvidia_entrypoint.sh",)


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "found", "kept"),
    [
        # python, pytorch/pytorch: none.
        ((), ("python3",), (), ("python3",)),
        ((), (), (), ("python",)),
        # NVIDIA's, now and in older images.
        (_NGC, (), _NGC, ("python",)),
        (_NGC, ("/bin/bash",), _NGC, ("/bin/bash",)),
        (("/usr/local/bin/nvidia_entrypoint.sh",), (), ("/usr/local/bin/nvidia_entrypoint.sh",), ("python",)),
        # miniforge, older Jupyter: a small init, whose work the launcher does.
        (("tini", "--"), ("/bin/bash",), (), ("/bin/bash",)),
        (("tini", "-g", "--"), ("start-notebook.sh",), (), ("start-notebook.sh",)),
        (("/usr/bin/dumb-init",), ("bash",), (), ("bash",)),
        (("/usr/bin/tini", "-g", "--", *_NGC), (), _NGC, ("python",)),
        # Built by gpuyard, on a base with a wrapper and without.
        (ENTRYPOINT, ("python", "a.py"), (), ("python", "a.py")),
        ((*_NGC, *ENTRYPOINT), ("python", "a.py"), _NGC, ("python", "a.py")),
    ],
)
def test_what_is_kept(
    entrypoint: tuple[str, ...], cmd: tuple[str, ...], found: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    base = ContainerConfig(entrypoint=entrypoint, cmd=cmd)
    start = entry_point(base, ())
    assert (start.entrypoint, start.cmd, start.wrapper) == ((*found, *ENTRYPOINT), kept, found)
    assert start.left_out == ""
    assert entry_point(base, ("python", "mine.py")).cmd == ("python", "mine.py")


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "named"),
    [
        (("python3", "-m", "vllm.entrypoints.openai.api_server"), ("--model", "a b"), "--model 'a b'"),
        (("/bin/bash", "-c"), ("python app.py",), "'python app.py'"),
        (("/usr/local/bin/_entrypoint.sh",), ("/bin/bash",), "/bin/bash"),
        (("conda", "run", "-n", "base"), ("python",), "python"),
        (("tini", "-g", "--", "start.sh"), ("start-notebook.py",), "start-notebook.py"),
        ((*_NGC, "--flag"), ("x",), "x"),
    ],
)
def test_a_program_goes_with_its_arguments(
    entrypoint: tuple[str, ...], cmd: tuple[str, ...], named: str
) -> None:
    base = ContainerConfig(entrypoint=entrypoint, cmd=cmd)
    start = entry_point(base, ())
    assert (start.entrypoint, start.cmd, start.wrapper) == (ENTRYPOINT, ("python",), ())
    assert f"and its arguments `{named}` are not" in start.left_out and "`run`" in start.left_out
    start = entry_point(base, ("python", "mine.py"))
    assert start.cmd == ("python", "mine.py")
    assert (
        "is not the image's" in start.left_out
        and named not in start.left_out.partition("`")[2].partition("`")[2]
    )
    assert "\n" not in start.left_out
