from __future__ import annotations

import pytest

from gpuyard.images.registry.urls import Url


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("http://Host:80", "http://host/"),
        ("https://host:443/a/b?c=d#e", "https://host/a/b?c=d"),
        ("https://host:5000/a b".replace(" ", "%20"), "https://host:5000/a%20b"),
        ("https://user:secret@host/a", "https://host/a"),
        ("http://[::1]:5000/v2/", "http://[::1]:5000/v2/"),
        ("https://host/ä?q=ü", "https://host/%C3%A4?q=%C3%BC"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://host/a?_state=ab%3D%2B&x=1+2", "https://host/a?_state=ab%3D%2B&x=1+2"),
    ],
)
def test_what_is_read_is_written_as_it_travels(text: str, read: str) -> None:
    assert str(Url.parse(text)) == read
    assert Url.parse(read) == Url.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "/token", "host", "http://", "http://h:99999/", "http://h:x/", "http://[::bad/x", "http://h/\x01",
     "http://h/a b", "http://h/\r\nx: y", "http://h%0d/"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Url.parse(text)


def test_addresses_relative_to_another() -> None:
    base = Url.parse("http://host:5000/v2/a/blobs/uploads/")
    assert str(base.join("../sha256:ab")) == "http://host:5000/v2/a/blobs/sha256:ab"
    assert str(base.join("/other?x=1")) == "http://host:5000/other?x=1"
    assert str(base.join("https://storage.example/x")) == "https://storage.example/x"
    assert str(base.join("//other/x")) == "http://other/x"
    with pytest.raises(ValueError, match="control character"):
        base.join("/a\tb")


def test_parameters_are_added_and_others_stay_as_they_are() -> None:
    url = Url.parse("http://h/u?_state=a%2Bb%3D&digest=old&service=")
    found = url.with_parameters({"digest": "sha256:ab", "scope": ["x:y", "z"]})
    assert found.target == "/u?_state=a%2Bb%3D&service=&digest=sha256%3Aab&scope=x%3Ay&scope=z"


def test_another_scheme_at_the_same_port() -> None:
    assert str(Url.parse("http://h:5000/x").with_scheme("https")) == "https://h:5000/x"
    assert str(Url.parse("http://h/x").with_scheme("https")) == "https://h:80/x"
