from __future__ import annotations

import json

import pytest

from gpuyard.building.listing import ListedItem, Listing
from gpuyard.cli.output import build_listing
from gpuyard.cli.output.build_listing import print_listing

LISTING = Listing(
    (
        ListedItem(40_000_000, "weights.pt", "file", "weights.pt"),
        ListedItem(2_000, "six 1.0", "wheel", "six-1.0-py3-none-any.whl", ("linux/amd64",)),
        ListedItem(10, "application", "file", "caf\udce9.txt"),
        ListedItem(None, "/uv of uv:0.5", "copy", "/uv of uv:0.5"),
    ),
    (("a.log", ".gitignore:1: *.log"),),
    ("a notice",),
    ("a warning",),
)


def test_what_goes_in_is_a_table_with_a_sum(capsys: pytest.CaptureFixture[str]) -> None:
    print_listing(LISTING, None, ignored=False)
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "SIZE      LAYER           WHAT",
        "40.0 MB   weights.pt      weights.pt",
        "2 kB      six 1.0         six-1.0-py3-none-any.whl (linux/amd64)",
        "10 B      application     caf�.txt",
        "?         /uv of uv:0.5   /uv of uv:0.5",
        "",
        "40.0 MB (files before compression, packages as they are fetched): weights.pt 40.0 MB, six 1.0 2 kB, "
        "application 10 B, /uv of uv:0.5 0 B; "
        "1 left out (--ignored says why)",
    ]
    assert said.err == "a notice\nwarning: a warning\n"


def test_what_stays_out_is_told_with_the_rule(capsys: pytest.CaptureFixture[str]) -> None:
    print_listing(LISTING, None, ignored=True)
    assert capsys.readouterr().out.splitlines() == ["WHAT    WHY", "a.log   .gitignore:1: *.log"]


def test_a_terminal_gets_the_largest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_listing, "_MOST_ROWS", 2)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_listing(LISTING, None, ignored=False)
    assert "… and 2 more; a pipe gets all of them" in capsys.readouterr().out


def test_machines_get_all(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    print_listing(LISTING, "json", ignored=False)
    said = json.loads(capfdbinary.readouterr().out)
    assert said["items"][1] == {
        "what": "six-1.0-py3-none-any.whl",
        "kind": "wheel",
        "layer": "six 1.0",
        "size": 2_000,
        "platforms": ["linux/amd64"],
    }
    assert said["items"][2]["what"] == "caf\udce9.txt"
    assert said["layers"][0] == {"title": "weights.pt", "items": 1, "size": 40_000_000}
    assert said["left_out"] == [{"path": "a.log", "why": ".gitignore:1: *.log"}]
    assert (said["notices"], said["warnings"]) == (["a notice"], ["a warning"])


def test_nothing_is_said_to_be_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_listing(Listing((), (), (), ()), None, ignored=False)
    assert capsys.readouterr().out.splitlines()[-1] == "nothing"
