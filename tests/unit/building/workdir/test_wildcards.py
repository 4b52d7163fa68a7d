from __future__ import annotations

import random
import re
import subprocess
import sys

from gpuyard.building.workdir.wildcards import FOLDERS, STAR, expression

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
