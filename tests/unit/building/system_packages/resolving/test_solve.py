from __future__ import annotations

from collections.abc import Sequence

import pytest

from gpuyard import errors
from gpuyard.building.system_packages.archives.debian_index import DebianIndex
from gpuyard.building.system_packages.control import split_paragraphs
from gpuyard.building.system_packages.resolving.solve import Asked, Chosen, solve
from gpuyard.building.system_packages.resolving.universe import Universe, read_installed


def paragraphs(text: str, status: str = "") -> str:
    """`a 1; Depends: b` and so on, one package a line."""
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        head, *fields = [part.strip() for part in line.split(";")]
        name, version = head.split()
        found.append(
            "\n".join(
                [
                    f"Package: {name}",
                    *([status] if status else []),
                    f"Version: {version}",
                    "Architecture: amd64",
                    *fields,
                ]
            )
        )
    return "\n\n".join(found) + "\n"


def choose(
    asked: Sequence[str], offered: str, base: str = "", preferred: dict[str, str] | None = None
) -> Chosen:
    status = paragraphs(base, "Status: install ok installed")
    index = DebianIndex.parse(paragraphs(offered))
    universe = Universe(read_installed(split_paragraphs(status)), [(index, 500, 0)], "amd64", preferred or {})
    return solve(universe, [Asked(*word.split("=")) for word in asked])


def names(chosen: Chosen) -> list[str]:
    return [str(package) for package in chosen.packages]


def test_what_is_needed_comes_along_and_what_is_recommended_does_not() -> None:
    chosen = choose(["a"], "a 1; Depends: b (>= 2), c; Recommends: d\n b 2\n c 1; Pre-Depends: e\n d 1\n e 1")
    assert names(chosen) == ["a 1", "b 2", "c 1", "e 1"]
    assert chosen.chains["e"] == ("a", "c", "e")


def test_the_newest_version_is_taken_and_the_named_one_where_one_is_named() -> None:
    offered = "a 1.9\n a 1.10\n a 1.2"
    assert names(choose(["a"], offered)) == ["a 1.10"]
    assert names(choose(["a=1.9"], offered)) == ["a 1.9"]
    assert names(choose(["a"], offered, preferred={"a": "1.2"})) == ["a 1.2"]


def test_what_the_base_has_stays_although_there_is_a_newer_one() -> None:
    offered = "a 1; Depends: c (>= 2.0), v\n c 2.5\n v 1"
    assert names(choose(["a", "c"], offered, base="c 2.1\n other 1; Provides: v")) == ["a 1"]


def test_the_base_gets_a_newer_one_where_that_is_demanded_and_all_that_goes_with_it() -> None:
    offered = "a 1; Depends: c (>= 3)\n c 3\n c-dev 3; Depends: c (= 3)\n friend 2"
    base = "c 2\n c-dev 2; Depends: c (= 2)\n friend 1; Breaks: c (>= 3)\n stranger 1; Depends: c"
    assert names(choose(["a"], offered, base)) == ["a 1", "c 3", "c-dev 3", "friend 2"]


def test_the_first_alternative_that_can_be_is_taken() -> None:
    offered = "a 1; Depends: x | b | c\n b 1; Depends: nothing-like-it\n c 1\n"
    assert names(choose(["a"], offered)) == ["a 1", "c 1"]
    assert names(choose(["a", "d"], "a 1; Depends: b | d\n b 1\n d 1")) == ["a 1", "d 1"]
    assert names(choose(["a"], "a 1; Depends: b | d\n b 1\n d 2", base="d 1")) == ["a 1"]


def test_a_provided_name_needs_a_version_where_one_is_asked_for() -> None:
    offered = "a 1; Depends: v (>= 2)\n b 1; Provides: v\n c 1; Provides: v (= 1)\n d 1; Provides: v (= 2)"
    assert names(choose(["a"], offered)) == ["a 1", "d 1"]


def test_packages_that_are_in_each_others_way_are_not_taken_together() -> None:
    offered = "a 1; Depends: b | c\n b 1\n c 1\n d 1; Conflicts: b"
    assert names(choose(["a", "d"], offered)) == ["a 1", "c 1", "d 1"]
    with pytest.raises(errors.ResolveError, match="don't go together") as caught:
        choose(["b", "d"], offered)
    assert "d" in caught.value.message and "b" in caught.value.message


def test_a_package_that_conflicts_with_a_name_that_it_provides_itself_can_be() -> None:
    offered = "mta 1; Provides: mail; Conflicts: mail\n other 1; Provides: mail; Conflicts: mail"
    assert names(choose(["mta"], offered)) == ["mta 1"]
    with pytest.raises(errors.ResolveError):
        choose(["mta", "other"], offered)


def test_nothing_of_the_base_is_removed() -> None:
    with pytest.raises(errors.ResolveError, match="old") as caught:
        choose(["a"], "a 1; Conflicts: old", base="old 1")
    assert "don't go together" in caught.value.message


def test_circles_are_no_trouble() -> None:
    assert names(choose(["a"], "a 1; Depends: b\n b 1; Depends: a")) == ["a 1", "b 1"]


def test_an_unknown_name_is_told_with_names_like_it() -> None:
    with pytest.raises(errors.ResolveError, match="no package libgll1") as caught:
        choose(["libgll1"], "libgl1 1\n libgl2 1\n zlib1g 1")
    assert "did you mean libgl1" in caught.value.remedy


def test_an_unknown_version_is_told_with_those_that_there_are() -> None:
    with pytest.raises(errors.ResolveError, match=r"a isn't there in version 3, only in 2, 1"):
        choose(["a=3"], "a 1\n a 2")


def test_a_name_that_only_others_provide_stands_for_the_one_or_must_be_chosen() -> None:
    assert names(choose(["v"], "b 1; Provides: v")) == ["b 1"]
    with pytest.raises(errors.ResolveError, match="b, c provide it"):
        choose(["v"], "b 1; Provides: v\n c 1; Provides: v")


def test_what_is_missing_is_told_with_who_asked_for_it() -> None:
    with pytest.raises(errors.ResolveError) as caught:
        choose(["a"], "a 1; Depends: b\n b 1; Depends: gone (>= 2)")
    assert "b wants gone (>= 2)" in caught.value.message
    assert "the base's archives have no gone" in caught.value.message


def test_packages_for_other_architectures_are_not_there() -> None:
    offered = "Package: a\nVersion: 1\nArchitecture: i386\n\nPackage: b\nVersion: 1\nArchitecture: all\n"
    universe = Universe([], [(DebianIndex.parse(offered), 500, 0)], "amd64", {})
    assert [p.name for p in solve(universe, [Asked("b")]).packages] == ["b"]
    with pytest.raises(errors.ResolveError):
        solve(universe, [Asked("a")])


def test_what_the_archive_does_not_want_installed_by_itself_comes_last() -> None:
    newer, older = (DebianIndex.parse(paragraphs(text)) for text in ("a 2", "a 1"))
    universe = Universe([], [(newer, 1, 0), (older, 500, 1)], "amd64", {})
    assert [str(p) for p in solve(universe, [Asked("a")]).packages] == ["a 1"]
