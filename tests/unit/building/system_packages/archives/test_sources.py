from __future__ import annotations

import pytest

from gpuyard import errors
from gpuyard.building.system_packages.archives.sources import AptSource, read_sources


def found(text: str, path: str = "etc/apt/sources.list", **environ: str) -> tuple[AptSource, ...]:
    return read_sources({path: text.encode()}, "amd64", environ).found


def test_lines_with_options_are_read() -> None:
    text = """\
# deb http://a.example old main
deb http://a.example/debian bookworm main contrib  # the rest is a comment
deb\t[ arch=amd64,arm64 signed-by=/k/1.gpg,/k/2.gpg trusted=yes check-valid-until=no ] \
https://b.example/ stable main
deb [arch=arm64] http://c.example stable main
deb-src http://a.example/debian bookworm main
deb https://d.example/cuda/x86_64 /
"""
    where = "/etc/apt/sources.list"
    assert found(text) == (
        AptSource("http://a.example/debian/", "bookworm", ("main", "contrib"), where=where),
        AptSource(
            "https://b.example/",
            "stable",
            ("main",),
            ("/k/1.gpg", "/k/2.gpg"),
            trusted=True,
            checks_date=False,
            where=where,
        ),
        AptSource("https://d.example/cuda/x86_64/", "/", where=where),
    )


def test_paragraphs_are_read() -> None:
    text = """\
Types: deb deb-src
URIs: http://a.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
Enabled: no
URIs: http://b.example
Suites: x
Components: main

Types: deb
URIs: http://c.example/
Suites: y
Components: main
Architectures: amd64
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----
"""
    one, two, three = found(text, "etc/apt/sources.list.d/debian.sources")
    assert (one.suite, two.suite) == ("trixie", "trixie-updates")
    assert one.keyrings == ("/usr/share/keyrings/debian-archive-keyring.gpg",)
    assert three.key == "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----\n"
    assert three.keyrings == ()


def test_the_folder_with_the_index_is_found() -> None:
    one, two, three = found(
        "deb http://a.example/debian s main\ndeb http://b.example/x /\ndeb http://c.example/x sub/\n"
    )
    assert one.dists == "http://a.example/debian/dists/s/"
    assert two.dists == "http://b.example/x/"
    assert three.dists == "http://c.example/x/sub/"


def test_a_suite_that_is_named_twice_is_one_source() -> None:
    text = "deb http://a.example x main\ndeb http://a.example/ x main universe\n"
    assert [source.components for source in found(text)] == [("main", "universe")]


def test_mirrors_stand_in_and_leave_out() -> None:
    text = (
        "deb http://deb.debian.org/debian x main\ndeb http://deb.debian.org/debian-security y main\n"
        "deb https://nvidia.example/cuda /\n"
    )
    sources = read_sources(
        {"etc/apt/sources.list": text.encode()},
        "amd64",
        {
            "GPUYARD_APT_MIRRORS": "http://deb.debian.org=https://in.example/apt "
            "http://deb.debian.org/debian-security=http://other.example/s https://nvidia.example="
        },
    )
    assert [source.uri for source in sources.found] == [
        "https://in.example/apt/debian/",
        "http://other.example/s/",
    ]
    assert [text.partition(" ")[0] for text in sources.skipped] == ["https://nvidia.example/cuda/"]


def test_what_is_no_web_address_is_told() -> None:
    sources = read_sources(
        {"etc/apt/sources.list": b"deb cdrom:[Debian]/ x main\ndeb file:/srv y main\n"}, "amd64", {}
    )
    assert sources.found == () and len(sources.skipped) == 2


@pytest.mark.parametrize("text", ["http://a.example", "ftp://a=http://b", "http://a=b"])
def test_mirrors_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(errors.UsageError, match="GPUYARD_APT_MIRRORS"):
        found("deb http://a.example x main", GPUYARD_APT_MIRRORS=text)


def test_an_architecture_that_is_taken_out_has_no_source() -> None:
    assert found("deb [arch-=amd64] http://a/ s main") == ()
    assert len(found("deb [arch-=arm64,i386] http://a/ s main")) == 1
    fields = "Types: deb\nURIs: http://a/\nSuites: s\nComponents: main\nArchitectures-Remove: amd64\n"
    assert found(fields, "etc/apt/sources.list.d/a.sources") == ()
