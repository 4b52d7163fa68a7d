from __future__ import annotations

from gpuyard.building.system_packages.resolving.relations import Relation, parse_relations, single_relations


def test_alternatives_versions_and_architectures_are_read() -> None:
    text = "libc6 (>= 2.34), default-mta | mail-transport-agent,\n python3:any (>= 3.11~), perl-base:amd64"
    assert parse_relations(text) == (
        (Relation("libc6", operator=">=", version="2.34"),),
        (Relation("default-mta"), Relation("mail-transport-agent")),
        (Relation("python3", "any", ">=", "3.11~"),),
        (Relation("perl-base", "amd64"),),
    )


def test_blanks_and_old_operators_do_not_matter() -> None:
    assert single_relations("a(<<1) , b ( = 2:1-3 ), ,c (> 1)") == (
        Relation("a", operator="<<", version="1"),
        Relation("b", operator="=", version="2:1-3"),
        Relation("c", operator=">", version="1"),
    )


def test_a_provided_name_without_a_version_is_no_version() -> None:
    assert Relation("a").takes_provided("")
    assert not Relation("a", operator=">=", version="1").takes_provided("")
    assert Relation("a", operator=">=", version="1").takes_provided("1.1")
