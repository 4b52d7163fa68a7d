from __future__ import annotations

import socket

from gpuyard.local.kubelet.ports import PortPool, free_port


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
