from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.local.service_proxy.heads import (
    Framing,
    Headers,
    ProxiedRequest,
    ProxyRefusal,
    answer_head,
    forwarded_request,
    read_answer,
)

_HOST = (b"Host", b"a:8000")


def _lines(*headers: tuple[bytes, bytes], target: bytes = b"/x?y=z") -> list[bytes]:
    request = forwarded_request(b"GET", target, "1.1", headers, b"127.0.0.1")
    assert isinstance(request, ProxiedRequest)
    assert request.head.endswith(b"\r\n\r\n")
    return request.head[:-4].split(b"\r\n")


def test_a_request_goes_on_with_where_it_came_from() -> None:
    assert _lines(_HOST, (b"Accept", b"*/*")) == [
        b"GET /x?y=z HTTP/1.1",
        b"Host: a:8000",
        b"Accept: */*",
        b"X-Forwarded-For: 127.0.0.1",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: a:8000",
    ]


def test_what_a_proxy_before_us_told_stays_and_is_appended_to() -> None:
    lines = _lines(
        _HOST,
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"X-Forwarded-For", b"10.0.0.2"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"example.org"),
    )
    assert b"X-Forwarded-For: 10.0.0.1, 10.0.0.2, 127.0.0.1" in lines
    assert [line for line in lines if line.startswith((b"X-Forwarded-P", b"X-Forwarded-H"))] == [
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: example.org",
    ]


def test_headers_of_one_hop_do_not_go_on() -> None:
    lines = _lines(
        _HOST,
        (b"Connection", b"keep-alive, X-Mine"),
        (b"X-Mine", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"TE", b"trailers"),
        (b"Trailer", b"T"),
        (b"Upgrade", b"websocket"),  # not named by Connection
    )
    assert [line.split(b":")[0] for line in lines[1:]] == [
        b"Host",
        b"X-Forwarded-For",
        b"X-Forwarded-Proto",
        b"X-Forwarded-Host",
    ]


def test_connection_cannot_remove_what_a_request_needs() -> None:
    lines = _lines(
        _HOST, (b"Content-Length", b"2"), (b"Connection", b"Content-Length, Host, X-Forwarded-For")
    )
    assert b"Content-Length: 2" in lines
    assert b"Host: a:8000" in lines


def test_a_whole_url_is_taken_apart() -> None:
    assert _lines(_HOST, target=b"http://b:1/p?q")[:2] == [b"GET /p?q HTTP/1.1", b"Host: b:1"]
    assert _lines(_HOST, target=b"HTTP://b?q")[:2] == [b"GET /?q HTTP/1.1", b"Host: b"]


@given(st.lists(st.sampled_from([b"Transfer-Encoding", b"transfer-encoding"]), min_size=2, max_size=3))
def test_two_transfer_encodings_are_refused(names: list[bytes]) -> None:
    refused = forwarded_request(b"POST", b"/", "1.1", [_HOST, *((n, b"chunked") for n in names)], b"c")
    assert isinstance(refused, ProxyRefusal)


def test_an_answer_says_how_its_body_ends() -> None:
    headers = [
        (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"close, X-Mine"),
        (b"X-Mine", b"1"),
        (b"Date", b"now"),
    ]
    answer = read_answer(b"GET", 200, b"OK", headers)
    assert answer is not None
    assert answer_head(answer, Framing.CHUNKED) == (
        b"HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert answer_head(answer, Framing.UNTIL_CLOSE, is_last=True) == (
        b"HTTP/1.1 200 OK\r\nDate: now\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("method", "status", "headers", "framing"),
    [
        (b"GET", 200, [(b"content-length", b"3")], Framing.LENGTH),
        (b"GET", 200, [(b"Transfer-Encoding", b"Chunked")], Framing.CHUNKED),
        (b"GET", 200, [], Framing.UNTIL_CLOSE),
        (b"HEAD", 200, [(b"content-length", b"3")], Framing.NO_BODY),
        (b"GET", 304, [(b"content-length", b"3")], Framing.NO_BODY),
        (b"GET", 204, [], Framing.NO_BODY),
        (b"GET", 103, [], Framing.NO_BODY),
    ],
)
def test_the_end_of_an_answer_is_known_before_its_body_comes(
    method: bytes, status: int, headers: Headers, framing: Framing
) -> None:
    answer = read_answer(method, status, b"", headers)
    assert answer is not None
    assert answer.framing is framing


def test_an_answer_whose_end_cannot_be_known_is_none() -> None:
    assert read_answer(b"GET", 200, b"OK", [(b"Transfer-Encoding", b"gzip, chunked")]) is None
