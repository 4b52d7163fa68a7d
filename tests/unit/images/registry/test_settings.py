from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard.images.registry.settings import (
    ENV_CA_FILE,
    ENV_PLAIN_HTTP,
    RegistrySettings,
    address_of,
    is_loopback,
    split_port,
)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.0.1", "::1", "[::1]", "a.localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["localhost.example", "10.0.0.1", "0.0.0.0", "::", "registry", "127.0.0.1.nip.io"]
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("registry", "address"),
    [
        ("docker.io", "https://registry-1.docker.io"),
        ("nvcr.io", "https://nvcr.io"),
        ("localhost:5000", "http://localhost:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("plain", "http://plain"),
        ("plain:80", "http://plain:80"),
        ("plain:5000", "https://plain:5000"),
        ("ported:5000", "http://ported:5000"),
        ("ported", "https://ported"),
    ],
)
def test_plain_http_is_for_loopback_and_for_whom_it_is_allowed(registry: str, address: str) -> None:
    settings = RegistrySettings(plain_http=frozenset({"plain:80", "ported:5000"}))
    assert address_of(registry, settings) == address


def test_ports() -> None:
    assert split_port("a:1") == ("a", 1)
    assert split_port("[::1]:5") == ("::1", 5)
    assert split_port("[::1]") == ("::1", None)
    assert split_port("a") == ("a", None)


def test_the_environment_says_the_same_as_the_options() -> None:
    said = {ENV_PLAIN_HTTP: "a:5000  b", ENV_CA_FILE: "/ca.pem"}
    settings = RegistrySettings(plain_http=frozenset({"c"}), attempts=2).with_environ(said)
    assert settings == RegistrySettings(frozenset({"a:5000", "b", "c"}), Path("/ca.pem"), attempts=2)
    assert settings.with_environ({}) == settings
