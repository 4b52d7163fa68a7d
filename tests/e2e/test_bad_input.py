"""Mistakes on the command line and in specs: named, with the remedy, exit code 2, nothing sent."""

from __future__ import annotations

import pytest

from .conftest import Yard

SPEC = """\
nmae: typo
resources:
  gpus: two
  memry: 4Gi
  shm: 16GB
retries: many
env:
  NOT_IN_THE_SHELL:
  1ABC: x
priority: Not A Name
run: "echo 'unclosed"
"""


def test_all_errors_of_a_spec_at_once_with_line_and_path(stopped_yard: Yard) -> None:
    stopped_yard.script("bad.yaml", SPEC)
    said = stopped_yard.refused(2, "run", "-f", "bad.yaml")
    for line, path, words in [
        (1, "nmae", "did you mean 'name'"),
        (3, "resources.gpus", "'two'"),
        (4, "resources.memry", "did you mean 'memory'"),
        (5, "resources.shm", "16Gi"),
        (6, "retries", "whole number, not 'many'"),
        (8, "env.NOT_IN_THE_SHELL", "isn't set in your shell"),
        (9, "env.1ABC", "environment variable"),
        (10, "priority", "PriorityClass"),
        (11, "run", "No closing quotation".lower()),
    ]:
        (found,) = (row for row in said.splitlines() if row.strip().startswith(f"bad.yaml:{line}: {path}: "))
        assert words in found
    assert "bad.yaml has 9 problems" in said
    # A mistake starts no yard.
    assert "stopped" in stopped_yard.refused(1, "ps")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["Name a script"]),
        (("missing.py",), ["missing.py isn't there"]),
        (("--", "torchrun", "--nproc_per_node=2", "missing.py"), ["missing.py isn't there"]),
        (("./missing.sh",), ["missing.sh isn't there"]),
        (("no-such-program",), ["no-such-program", "on PATH"]),
        (("sleep 600",), ["leave the quotes out: gpuyard run … -- sleep 600"]),
        (("--workdir", "nowhere", "--", "true"), ["nowhere", "isn't there"]),
        (("--python", "python9", "--", "python", "-V"), ["'python9'"]),
        (("-f", "missing.yaml"), ["missing.yaml"]),
        (("-f", "/dev/zero"), ["/dev/zero", "more than 4 MiB"]),
        (("--gpus", "H1OO:2", "--", "true"), ["--gpus", "H1OO", "H100"]),
        (("--gpus", "-1", "--", "true"), ["--gpus"]),
        (("--gpus", "1.5", "--", "true"), ["--gpus"]),
        (("--memory", "16GB", "--", "true"), ["--memory", "16Gi"]),
        (("--memory", "16", "--", "true"), ["--memory", "unit"]),
        (("--env", "NOT_IN_THE_SHELL", "--", "true"), ["NOT_IN_THE_SHELL"]),
        (("-n", "Not_A_Name", "--", "true"), ["'Not_A_Name'", "not-a-name"]),
        (("-n", "x" * 53, "--", "true"), ["52"]),
        (("--retries", "-1", "--", "true"), ["--retries"]),
        (("--epochs", "3", "train.py"), ["--epochs", "after `--`"]),
        (("--toleration", "=x:Bad", "--", "true"), ["--toleration"]),
        (("--node-selector", "novalue", "--", "true"), ["--node-selector", "KEY=VALUE"]),
        (("--priority", "unheard-of", "--", "true"), ["unheard-of", "system-node-critical"]),
        (("--context", "unheard-of", "--image", "x", "--", "true"), ["unheard-of"]),
    ],
)
def test_a_mistake_on_the_command_line(yard: Yard, arguments: tuple[str, ...], words: list[str]) -> None:
    said = yard.refused(2, "run", *arguments)
    for word in words:
        assert word in said
    assert yard.api("GET", "/apis/batch/v1/jobs")["items"] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("run: [", ["spec.yaml"]),
        ("- a\n- b\n", ["spec.yaml"]),
        ("run: true\nrun: false\n", ["run", "2"]),
        ("", ["run"]),
        ("name: x\n", ["run", "nothing to run"]),
    ],
)
def test_a_spec_that_is_no_spec(yard: Yard, text: str, words: list[str]) -> None:
    yard.script("spec.yaml", text)
    said = yard.refused(2, "run", "-f", "spec.yaml")
    for word in words:
        assert word in said


def test_a_spec_that_is_no_text(yard: Yard) -> None:
    (yard.work / "spec.yaml").write_bytes(b"run: \xff\xfe\x00")
    assert "spec.yaml" in yard.refused(2, "run", "-f", "spec.yaml")
    assert "Is a directory" in yard.refused(2, "run", "-f", ".")


def test_a_command_that_is_none(yard: Yard) -> None:
    assert "Did you mean 'status'?" in yard.refused(2, "statsu")
    assert "--simulate" in yard.refused(2, "up", "--simulat")
    assert "Did you mean 'ps'?" in yard.refused(2, "list")
    assert "One run at a time" in yard.refused(2, "logs", "one", "two")
    assert yard.call("ps", "-a").code == 0


@pytest.mark.parametrize("text", ["H1OO:8", "H100:0", "H100:-1", "H100:x", ":8", "8"])
def test_a_simulation_of_nothing(stopped_yard: Yard, text: str) -> None:
    said = stopped_yard.refused(2, "up", "--simulate", text)
    assert repr(text) in said and ("H100:8" in said or "H100:N" in said)
    assert "stopped" in stopped_yard.refused(1, "ps")


@pytest.mark.parametrize(
    "arguments",
    [
        ("ps",),
        ("nodes",),
        ("status",),
        ("logs", "x"),
        ("show", "x"),
        ("explain", "x"),
        ("stop", "x"),
        ("rm", "x"),
    ],
)
def test_a_stopped_yard(stopped_yard: Yard, arguments: tuple[str, ...]) -> None:
    said = stopped_yard.refused(1, *arguments)
    assert f"the yard is stopped (data in {stopped_yard.home})" in said
    assert "gpuyard up" in said
    assert list(stopped_yard.home.iterdir()) == []
