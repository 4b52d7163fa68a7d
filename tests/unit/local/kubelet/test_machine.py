"""Names of nodes, and which kubelet looks after what."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuyard.local.kubelet.machine import Machine, node_names
from gpuyard.local.paths import YardPaths
from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.process.sandbox import no_isolation
from gpuyard.local.runtime.runtimes import Runtimes


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("vm", ("vm", "vm-2", "vm-3")),
        ("My_Host.local.", ("my-host.local", "my-host.local-2", "my-host.local-3")),
        ("", ("yard", "yard-2", "yard-3")),
        ("a" * 59 + ".bcd", ("a" * 59 + ".bcd", "a" * 59 + "-2", "a" * 59 + "-3")),
    ],
)
def test_the_first_node_is_called_as_the_host(host: str, named: tuple[str, ...]) -> None:
    assert node_names(host, 3) == named


def test_the_first_kubelet_looks_after_nodes_that_are_no_more(tmp_path: Path) -> None:
    runtimes = Runtimes(no_isolation(""), Cgroups(), lambda: datetime.now(UTC))
    paths = YardPaths(tmp_path, tmp_path / "run")
    machine = Machine(paths, runtimes, lambda: datetime.now(UTC), node_names("vm", 2))
    asked = [(kubelet, node) for kubelet in ("vm", "vm-2") for node in ("vm", "vm-2", "vm-3", "other")]
    assert [pair for pair in asked if machine.looks_after(*pair)] == [
        ("vm", "vm"),
        ("vm", "vm-3"),
        ("vm", "other"),
        ("vm-2", "vm-2"),
    ]
    assert [node for node in ("vm", "vm-2", "vm-3", "other") if machine.was_here(node)] == ["vm-3"]
    assert machine.cdi_dir("vm") == tmp_path / "run/cdi"
    assert machine.cdi_dir("vm-2") == tmp_path / "run/2/cdi"
