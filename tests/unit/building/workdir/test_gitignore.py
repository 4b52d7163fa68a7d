"""Patterns of .gitignore one by one, each held against git itself."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpuyard.building.workdir.gitignore import FOLDERS, STAR, GitIgnore, expression
from tests.unit.building.test_revision import git

#: Patterns, a path (a folder's ends in a slash), and whether it stays out; None when no pattern is of it.
CASES: list[tuple[str, str, bool | None]] = [
    ("*.log", "a.log", True),
    ("*.log", "sub/a.log", True),
    ("/*.log", "sub/a.log", None),
    ("sub/*.log", "sub/a.log", True),
    ("sub/*.log", "x/sub/a.log", None),
    ("sub/*.log", "sub/x/a.log", None),
    ("data/", "data/", True),
    ("data/", "data", None),
    ("data/", "x/data/", True),
    ("/data/", "x/data/", None),
    ("data", "data", True),
    ("**/a/b", "x/y/a/b", True),
    ("**/a/b", "a/b", True),
    ("a/**/b", "a/b", True),
    ("a/**/b", "a/x/y/b", True),
    ("a/**/b", "ab", None),
    ("a/**", "a/x/y", True),
    ("a/**", "a", None),
    ("a/***", "a/x/y", True),
    ("a/**b", "a/xb", True),
    ("a/**b", "a/x/b", None),
    ("**", "a/b", True),
    ("x**y", "xay", True),
    ("?.py", "a.py", True),
    ("a?b/c", "a/b/c", None),
    ("[ab].py", "a.py", True),
    ("[!ab].py", "a.py", None),
    ("[^ab].py", "c.py", True),
    ("[a-c]x", "bx", True),
    ("[z-a]x", "bx", None),
    ("[]-]x", "]x", True),
    ("[a-]x", "-x", True),
    ("a[/]b/c", "a/b/c", None),
    ("a[!x]b/c", "a/b/c", None),
    ("[[:digit:]]x", "7x", True),
    ("[[:digit:]_]x", "_x", True),
    ("[[:nothing:]]x", "ax", None),
    ("[ab", "[ab", None),
    ("a\\", "a", None),
    ("\\#a", "#a", True),
    ("#a", "#a", None),
    ("\\!a", "!a", True),
    ("\\*", "*", True),
    ("\\*", "a", None),
    ("a  ", "a", True),
    ("a\\ ", "a ", True),
    (" a", " a", True),
    ("a\r", "a", True),
    ("\ufeffa", "a", True),
    ("!", "!", None),
    ("/", "a", None),
    ("//", "a", None),
    ("*\n!*.py", "a.py", False),
    ("!*.py\n*", "a.py", True),
    ("*\n!*/", "sub/", False),
    ("*\n!*/", "sub/a", True),
    ("a.b", "axb", None),
    ("a+(b)|c", "a+(b)|c", True),
]


@pytest.mark.parametrize(("patterns", "path", "expected"), CASES)
def test_a_path(patterns: str, path: str, expected: bool | None) -> None:
    verdict = GitIgnore.parse(patterns).verdict(path)
    assert (verdict and verdict[0]) == expected


def test_git_says_the_same(tmp_path: Path) -> None:
    """Of each case in a folder of its own, with the path there as a file or folder."""
    git(tmp_path, "init", "--quiet")
    for number, (patterns, path, _) in enumerate(CASES):
        place = tmp_path / str(number) / path
        place.mkdir(parents=True) if path.endswith("/") else place.parent.mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            place.write_text("")
        (tmp_path / str(number) / ".gitignore").write_text(patterns, "utf-8", newline="")
    paths = [f"{number}/{path}" for number, (_, path, _) in enumerate(CASES)]
    words = ("git", "check-ignore", "--no-index", "--verbose", "--non-matching", "-z", "--stdin")
    done = subprocess.run(
        words, cwd=tmp_path, input="\0".join(paths), capture_output=True, text=True, check=True
    )
    told = done.stdout.split("\0")
    said = {
        path: None if not source else not pattern.startswith("!")
        for source, _, pattern, path in zip(told[::4], told[1::4], told[2::4], told[3::4], strict=False)
    }
    assert said == {path: expected for path, (_, _, expected) in zip(paths, CASES, strict=True)}


def test_the_line_that_decides_is_told() -> None:
    assert GitIgnore.parse("# all\n*\n\n!*.py\nb.*\n").verdict("src/b.py") == (True, "5: b.*")


#: Ends by processor time: with a plain expression for each star these take longer than anyone lives.
_MANY = """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from gpuyard.building.workdir.dockerignore import DockerIgnore
from gpuyard.building.workdir.gitignore import GitIgnore
for kind in (GitIgnore, DockerIgnore):
    for pattern in ("*a" * 60 + "*b", "x/" + "a*" * 60 + "b", "**/a/" * 30 + "b", "?*" * 60 + "[b]"):
        for path in ("a" * 2000, "x/" + "a" * 2000, "a/" * 300 + "a", "a" * 200 + "/a" * 300):
            kind.parse(pattern).verdict(path)
"""


def test_no_pattern_keeps_a_build_busy() -> None:
    assert subprocess.run([sys.executable, "-c", _MANY]).returncode == 0


def test_what_matches_is_what_a_plain_expression_matches() -> None:
    chosen = random.Random(0)
    matched = 0
    for _ in range(20_000):
        pieces = chosen.choices(["a", "b", "[^/]", STAR, "/"], k=chosen.randrange(1, 6))
        for _ in range(chosen.randrange(3)):
            at = chosen.choice([n for n in range(len(pieces) + 1) if n == 0 or pieces[n - 1] == "/"])
            pieces[at:at] = [FOLDERS]
        # Between FOLDERS are whole folders, or what docker alone allows: anything.
        plain, own = re.compile("".join(pieces)), re.compile(expression(pieces))
        for tail in ("", "(?:/.*)?"):
            plain, own = (re.compile(each.pattern + tail) for each in (plain, own))
            for _ in range(5):
                path = "".join(chosen.choices("ab/", k=chosen.randrange(8)))
                expected = bool(plain.fullmatch(path))
                assert bool(own.fullmatch(path)) is expected, (pieces, path)
                matched += expected
    assert matched > 1000


def test_folders_after_part_of_a_name_match_as_before() -> None:
    assert re.fullmatch(expression(["x", STAR, "a", FOLDERS, "b"]), "xaab")
