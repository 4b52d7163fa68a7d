"""The options of `run` against the keys of the spec."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.cli.commands.run import command
from gpuyard.cli.commands.serve import command as serve_command
from gpuyard.cli.commands.update import command as update_command
from gpuyard.cli.options.spec import SpecOption, flags_of
from gpuyard.workloads.spec.model import RESOURCES, SPEC
from gpuyard.workloads.spec.overrides import Flag, FlagForm
from gpuyard.workloads.spec.run_spec import RunSpec
from gpuyard.workloads.spec.service.reading import KEYS, TARGET_KEYS


def parse(*arguments: str) -> list[Flag]:
    with command.make_context("run", list(arguments)) as context:
        return flags_of(context)


def test_every_key_has_its_option() -> None:
    keys = set(SPEC.keys) - {"run", "resources", "service"}
    keys |= {f"resources.{name}" for name in RESOURCES.keys}
    assert keys == {option.key for option in command.params if isinstance(option, SpecOption)}


def test_every_key_of_a_service_has_its_option() -> None:
    keys = {f"service.{key}" for key in KEYS} - {"service.target"}
    keys |= {f"service.target.{key}" for key in TARGET_KEYS}
    for serving in (serve_command, update_command):
        options = {option.key for option in serving.params if isinstance(option, SpecOption)}
        assert keys == {key for key in options if key.startswith("service.")}
        assert options - keys < {o.key for o in command.params if isinstance(o, SpecOption)}


def test_every_key_reaches_the_checked_spec() -> None:
    keys = set(SPEC.keys) - {"resources"} | set(RESOURCES.keys)
    assert keys == {field.name for field in fields(RunSpec)} - {
        "build",
        "baked",
        "terminal",
        "least_nodes",
        "written",
    }


def test_an_option_lays_its_text_on_its_key() -> None:
    assert parse("--gpus", "2", "-n", "a", "--env", "A=1", "--env", "B") == [
        Flag("--gpus", ("resources", "gpus"), "2"),
        Flag("--name", ("name",), "a"),
        Flag("--env", ("env",), "A=1", FlagForm.ENTRY_OR_KEY),
        Flag("--env", ("env",), "B", FlagForm.ENTRY_OR_KEY),
    ]
    assert parse("x") == []


def test_yaml_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "affinity.yaml").write_text("podAffinity: {}")
    [flag] = parse("--affinity", f"@{tmp_path}/affinity.yaml")
    assert flag == Flag("--affinity", ("affinity",), "podAffinity: {}", FlagForm.YAML)
    with pytest.raises(errors.UsageError, match="can't read"):
        parse("--affinity", f"@{tmp_path}/none.yaml")
