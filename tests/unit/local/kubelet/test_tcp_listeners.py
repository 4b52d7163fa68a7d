from __future__ import annotations

import os
import socket
from contextlib import ExitStack

import pytest

from gpuyard.local.kubelet.tcp_listeners import loopback_listeners
from gpuyard.local.runtime.procfs import held_sockets

V4, V6 = "127.0.0.1", "::1"


def _listening(address: str, port: int = 0, *, only_v6: bool = True) -> socket.socket:
    one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if one.family is socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_v6)
    try:
        one.bind((address, port))
    except OSError:
        one.close()
        pytest.skip(f"this machine has no {address}")
    one.listen()
    return one


def _name(one: socket.socket) -> str:
    return os.readlink(f"/proc/self/fd/{one.fileno()}")


@pytest.mark.parametrize(
    ("bound", "only_v6", "reached"),
    [
        (V4, True, [V4]),
        ("0.0.0.0", True, [V4]),
        (V6, True, [V6]),
        ("::", False, [V4, V6]),
        ("::ffff:127.0.0.1", False, [V4]),
    ],
)
def test_who_takes_the_connections_to_a_loopback_address(
    bound: str, only_v6: bool, reached: list[str]
) -> None:
    with _listening(bound, only_v6=only_v6) as one:
        assert loopback_listeners(one.getsockname()[1]) == {address: {_name(one)} for address in reached}


def test_the_one_with_the_address_itself_takes_them_from_one_with_all_addresses() -> None:
    with ExitStack() as stack:
        wide = stack.enter_context(_listening("::"))
        narrow = stack.enter_context(_listening(V4, wide.getsockname()[1]))
        assert loopback_listeners(wide.getsockname()[1]) == {V4: {_name(narrow)}, V6: {_name(wide)}}


def test_a_port_that_is_only_taken_or_connected_has_no_listener() -> None:
    with socket.socket() as one, _listening(V4) as server:
        one.bind((V4, 0))
        assert loopback_listeners(one.getsockname()[1]) == {}
        one.connect(server.getsockname())
        assert loopback_listeners(one.getsockname()[1]) == {}


def test_who_holds_a_socket() -> None:
    with _listening(V4) as one:
        sockets = {_name(one), "socket:[0]"}
        assert held_sockets([2**22 + 1, os.getpid()], sockets) == {_name(one)}
        assert held_sockets([1, os.getppid()], sockets) == set()
