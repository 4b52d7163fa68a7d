from __future__ import annotations

import socket
from collections.abc import Collection

import pytest

from gpuyard import errors
from gpuyard.runs.interactive.forwarding import PortPair, listeners


@pytest.mark.parametrize(
    ("text", "local", "remote"), [("8888", None, 8888), ("9000:8888", 9000, 8888), (":8888", 0, 8888)]
)
def test_ports_are_written_as_kubectl_has_them(text: str, local: int | None, remote: int) -> None:
    assert PortPair.parse(text) == PortPair(local, remote)


@pytest.mark.parametrize("text", ["http", "0", "70000", "70000:80", "80:", "-1", "1:2:3", "", "8\u00b2"])
def test_what_is_no_port_is_misuse(text: str) -> None:
    with pytest.raises(errors.UsageError, match="is no port"):
        PortPair.parse(text)


def _port(pair: PortPair, own: Collection[int]) -> int:
    made = listeners(pair, own)
    (port,) = {int(one.getsockname()[1]) for one in made}
    for one in made:
        one.close()
    return port


def _row_of_free_ports(count: int) -> int:
    """The first of some ports of which none is taken."""
    for first in range(20_000, 30_000, count):
        try:
            for port in range(first, first + count):
                _port(PortPair(port, 80), ())
        except errors.UsageError:
            continue
        return first
    raise AssertionError("no free ports")


def test_where_none_is_named_the_runs_own_port_is_left_to_it() -> None:
    first = _row_of_free_ports(4)
    pair = PortPair.parse(str(first))
    assert _port(pair, ()) == first
    with socket.create_server(("127.0.0.1", first + 1)):
        assert _port(pair, {first, first + 2}) == first + 3
    assert _port(PortPair(None, 65535), {65535}) not in (0, 65535)


def test_the_runs_own_port_is_refused_where_it_is_named() -> None:
    with pytest.raises(errors.UsageError, match="port 8888 of this machine is the run's own") as refused:
        listeners(PortPair(8888, 8888), {8888})
    assert "write 8888 for another port" in str(refused.value.remedy)
    with pytest.raises(errors.UsageError, match="port 6006"):
        listeners(PortPair(6006, 8888), {8888, 6006})
