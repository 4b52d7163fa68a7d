import json
from collections.abc import Sequence

import pytest
from click.testing import CliRunner

from gpuyard.cli.commands.install import command

IMAGE = "registry.example.com/gpuyard/agent:v1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--image"),
        (["--base=python:3.11"], "--image"),
        ([f"--image={IMAGE}", "-o", "yaml"], "--dry-run"),
        ([f"--image={IMAGE}", "--base=a", "--dry-run"], "builds nothing"),
        ([f"--image={IMAGE}", "--push=a"], "--base"),
        ([f"--image={IMAGE}", "--build-only"], "--base"),
        ([f"--image={IMAGE}", "--driver-access=root"], "runtimeclass"),
    ],
)
def test_options_that_do_not_go_together(words: Sequence[str], message: str) -> None:
    done = CliRunner().invoke(command, words)
    assert (done.exit_code, message in done.output) == (2, True), done.output


def test_a_dry_run_needs_no_cluster() -> None:
    done = CliRunner().invoke(command, [f"--image={IMAGE}", "--simulate=H100:8", "--dry-run", "-o", "json"])
    assert done.exit_code == 0
    assert json.loads(done.output)["items"][-1]["kind"] == "DaemonSet"
