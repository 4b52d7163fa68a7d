"""What a client or a replica may cost the proxy: bytes, time, numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProxyLimits:
    """Tests shorten the times.

    Attributes:
        head_bytes: of a request: its line and headers.
        answer_head_bytes: of an answer.
        head_s: from a request's first byte to the end of its headers.
        body_s: between two pieces of a request's body.
        idle_s: of a client's connection between two requests; nginx has the same.
        unread_s: a client that takes no byte of what waits for it is given up.
        connect_s: to a replica; its backlog may be full.
        kept_s: an unused connection to a replica is closed before the replica does that: programs close
            theirs after 2 s (gunicorn), 5 s (uvicorn, Node) or later.
        refused_s: a replica that refused a connection is left out for so long.
        hold_s: a request waits so long for a replica.
        held: requests that wait.
        held_bytes: of their bodies, all together.
        kept_body_bytes: of one request, while it waits or can be repeated.
        attempts: times that a request is sent; a replica that dies of it shall not take all with it.
        connections: of clients.
        drain_s: what is under way when the proxy ends gets so long.
    """

    head_bytes: int = 64 << 10
    answer_head_bytes: int = 256 << 10
    head_s: float = 30.0
    body_s: float = 60.0
    idle_s: float = 75.0
    unread_s: float = 60.0
    connect_s: float = 5.0
    kept_s: float = 1.5
    refused_s: float = 0.1
    hold_s: float = 120.0
    held: int = 1024
    held_bytes: int = 32 << 20
    kept_body_bytes: int = 64 << 10
    attempts: int = 3
    connections: int = 8192
    drain_s: float = 30.0
