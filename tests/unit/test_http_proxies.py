from __future__ import annotations

import ast
from pathlib import Path

import httpx
import pytest

import gpuyard
from gpuyard import errors
from gpuyard.http_proxies import proxy_for, proxy_in_use

_PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("environ", "url", "found"),
    [
        ({}, "https://reg.example", None),
        ({"HTTPS_PROXY": _PROXY}, "https://reg.example", _PROXY),
        ({"https_proxy": _PROXY, "HTTPS_PROXY": "http://other"}, "https://reg.example", _PROXY),
        ({"HTTPS_PROXY": _PROXY}, "http://reg.example", None),
        ({"ALL_PROXY": _PROXY}, "http://reg.example", _PROXY),
        ({"HTTPS_PROXY": "proxy:3128"}, "https://reg.example", _PROXY),
        ({"HTTPS_PROXY": " http://proxy:3128 "}, "https://reg.example", _PROXY),
        ({"HTTP_PROXY": _PROXY, "REQUEST_METHOD": "GET"}, "http://reg.example", None),
        ({"ALL_PROXY": _PROXY}, "http://localhost:5000", None),
        ({"ALL_PROXY": _PROXY}, "https://a.localhost", None),
        ({"ALL_PROXY": _PROXY}, "http://127.3.2.1:5000", None),
        ({"ALL_PROXY": _PROXY}, "http://[::1]:5000", None),
        # What isn't used isn't looked at.
        ({"HTTP_PROXY": "http://a:b", "HTTPS_PROXY": _PROXY}, "https://reg.example", _PROXY),
        ({"HTTPS_PROXY": "http://a:b", "NO_PROXY": "*"}, "https://reg.example", None),
    ],
)
def test_the_proxy_of_a_request(environ: dict[str, str], url: str, found: str | None) -> None:
    assert proxy_for(httpx.URL(url), environ) == found


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("reg.example", "https://reg.example", True),
        ("reg.example", "https://a.reg.example:5000", True),
        ("reg.example", "https://areg.example", False),
        (".reg.example", "https://a.reg.example", True),
        (".reg.example", "https://reg.example", False),
        ("*.reg.example", "https://a.reg.example", True),
        ("REG.example", "https://reg.EXAMPLE", True),
        ("other, reg.example", "https://reg.example", True),
        ("other reg.example", "https://reg.example", True),
        ("reg.example:5000", "https://reg.example:5000", True),
        ("reg.example:443", "https://reg.example", True),
        ("reg.example:5000", "https://reg.example", False),
        ("https://reg.example", "https://reg.example", True),
        ("10.0.0.0/8", "https://10.1.2.3:5000", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.1.2.3", "https://10.1.2.3", True),
        ("fe80::/10", "https://[fe80::1]:5000", True),
        ("fe80::1", "https://[fe80::1]", True),
        ("[fe80::1]:5000", "https://[fe80::1]:5000", True),
        ("[fe80::1]:5000", "https://[fe80::1]", False),
        # What can't be read is nobody's name.
        ("foo:bar,[::1,10.0.0.0/99,,://", "https://reg.example", False),
        ("foo:bar,[::1,10.0.0.0/99,,://", "https://10.0.0.1", False),
        ("*", "https://reg.example", True),
    ],
)
def test_hosts_that_need_none(no_proxy: str, url: str, direct: bool) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        found = proxy_for(httpx.URL(url), {"HTTPS_PROXY": _PROXY, name: no_proxy})
        assert found == (None if direct else _PROXY)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("::::", "is no address"),
        ("http://proxy:port", "is no address: invalid port: 'port'"),
        ("http://[::1", "is no address"),
        ("http://", "names no host"),
        ("socks5://proxy:1080", "is a proxy of the kind socks5, and only http and https are spoken"),
        ("ftp://proxy", "is a proxy of the kind ftp"),
    ],
)
def test_what_is_no_proxy_is_said_with_its_variable(value: str, why: str) -> None:
    with pytest.raises(errors.UsageError, match=f"https_proxy is .* which {why}"):
        proxy_for(httpx.URL("https://reg.example"), {"https_proxy": value})


def test_a_password_is_not_in_messages() -> None:
    url = httpx.URL("https://reg.example")
    for address in ("http://me:hunter2@proxy:port", "me:hunter2@proxy:port", "socks5://me:hun@ter2@proxy"):
        with pytest.raises(errors.UsageError) as caught:
            proxy_for(url, {"HTTPS_PROXY": address})
        assert "…@proxy" in str(caught.value) and "hun" not in str(caught.value)
    assert proxy_in_use(url, {"HTTPS_PROXY": "http://me:hunter2@proxy:1"}) == "http://…@proxy:1"
    assert proxy_in_use(url, {}) == ""


def test_every_client_of_ours_goes_through_it() -> None:
    source = Path(gpuyard.__file__).parent
    without = [
        f"{file.relative_to(source)}:{node.lineno}"
        for file in source.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("httpx.AsyncClient", "httpx.Client")
        and "transport" not in [keyword.arg for keyword in node.keywords]
    ]
    assert without == []
