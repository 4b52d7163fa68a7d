from __future__ import annotations

import pytest

from gpuyard import errors
from gpuyard.runs.interactive.forwarding import PortPair


@pytest.mark.parametrize(
    ("text", "local", "remote"), [("8888", 8888, 8888), ("9000:8888", 9000, 8888), (":8888", 0, 8888)]
)
def test_ports_are_written_as_kubectl_has_them(text: str, local: int, remote: int) -> None:
    assert PortPair.parse(text) == PortPair(local, remote)


@pytest.mark.parametrize("text", ["http", "0", "70000", "70000:80", "80:", "-1", "1:2:3", "", "8\u00b2"])
def test_what_is_no_port_is_misuse(text: str) -> None:
    with pytest.raises(errors.UsageError, match="is no port"):
        PortPair.parse(text)
