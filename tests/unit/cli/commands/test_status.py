from __future__ import annotations

import pytest

from gpuyard.cli.commands.status import _print_cluster
from gpuyard.installing.status import AgentCounts, ClusterStatus


def test_what_is_left_of_an_install_is_in_no_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    left = ClusterStatus(
        api="https://a",
        version="1.37",
        installed=True,
        namespace=None,
        missing=["Namespace gpuyard-system"],
        changed=[],
        image=None,
        agents=AgentCounts(0, 0),
        nodes=[],
    )
    _print_cluster(left)
    said = capsys.readouterr()
    assert "Installed:   in part\n" in said.out
    assert "half done" in said.err
