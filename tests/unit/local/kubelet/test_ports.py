from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gpuyard.local.kubelet.ports import MASTER, PortPool, free_port, own_port, with_free_port


def test_none_is_given_twice() -> None:
    offers = iter([5, 5, 6, 6, 5, 7])
    pool = PortPool(lambda: next(offers))
    assert [pool.take("a"), pool.take("b"), pool.take("a")] == [5, 6, 5]
    pool.keep("old", {"8000": 6})
    assert pool.take("c") == 7


def test_given_back() -> None:
    offers = iter([5, 5])
    pool = PortPool(lambda: next(offers))
    pool.take("a")
    pool.give_back("a")
    pool.give_back("never had one")
    assert pool.take("b") == 5


def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", port := free_port()))
        assert server.getsockname()[1] == port


def test_ports_before_are_known_before_any_is_given() -> None:
    offers = iter([5, 6, 7])
    pool = PortPool(lambda: next(offers))
    pool.keep("old", {MASTER: 5, "8000": 6})
    assert pool.take("new") == 7
    assert pool.take_each("old", [8000]) == {8000: 6}
    pool.keep("new", {})
    assert pool.held("new") == {MASTER: 7}


@pytest.mark.parametrize(
    ("ports", "env", "own"),
    [
        ([8000], {"PORT": "8000"}, 8000),
        ([8000], {}, None),
        ([8000], {"PORT": "9000"}, None),
        ([8000], {"PORT": None}, None),
        ([8000, 9000], {"PORT": "8000"}, None),
        ([], {"PORT": "8000"}, None),
    ],
)
def test_whose_port_another_stands_in_for(
    ports: list[int], env: dict[str, str | None], own: int | None
) -> None:
    container = {
        "name": "main",
        "ports": [{"containerPort": port} for port in ports],
        "env": [{"name": name, **({"value": value} if value else {})} for name, value in env.items()],
    }
    assert own_port(container) == own
    found = with_free_port(container, {8000: 30123})
    assert [one.get("value") for one in found["env"]] == (["30123"] if own else list(env.values()))
    # Once is enough.
    assert with_free_port(found, {8000: 30123, 30123: 4}) == found


def test_a_free_port_is_none_that_connections_get() -> None:
    lowest, highest = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    if lowest < 32768:
        pytest.skip("here connections may have nearly all of them")
    assert not any(lowest <= free_port() <= highest for _ in range(10))
