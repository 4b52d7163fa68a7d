"""Options that several commands share."""

from __future__ import annotations

import importlib

import click
import pytest

from gpuyard.cli.main import COMMANDS
from gpuyard.cli.options.shared import Span


def test_a_number_without_a_unit_is_refused_as_in_a_spec() -> None:
    assert Span().convert("1h30m", None, None) == 5400
    with pytest.raises(click.BadParameter, match="'5' has no unit"):
        Span().convert("5", None, None)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_time_is_written_in_the_same_way(name: str) -> None:
    command = importlib.import_module(f"gpuyard.cli.commands.{name}").command
    for option in command.params:
        if option.name and (option.name.endswith("_s") or option.name == "timeout"):
            assert option.metavar == "TIME"
            assert isinstance(option.type, Span) or option.key == "timeout"
