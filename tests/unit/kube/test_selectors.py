from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.kube.selectors import (
    Requirement,
    Selector,
    field_text,
    parse_field_selector,
    parse_label_selector,
    requirements_of,
    selects,
)


def needs(key: str, operator: str, *values: str) -> Requirement:
    return Requirement(key, operator, values)


@pytest.mark.parametrize(
    ("text", "requirements"),
    [
        ("", ()),
        (" , ", ()),
        ("a=b", (needs("a", "In", "b"),)),
        ("a==b", (needs("a", "In", "b"),)),
        ("a = b", (needs("a", "In", "b"),)),
        ("a!=b", (needs("a", "NotIn", "b"),)),
        ("a=", (needs("a", "In", ""),)),
        ("a", (needs("a", "Exists"),)),
        ("!a", (needs("a", "DoesNotExist"),)),
        ("! a", (needs("a", "DoesNotExist"),)),
        ("a in (b,c)", (needs("a", "In", "b", "c"),)),
        ("a in( b , c )", (needs("a", "In", "b", "c"),)),
        ("a notin (b)", (needs("a", "NotIn", "b"),)),
        ("in in (in)", (needs("in", "In", "in"),)),
        (
            "gpuyard.io/run=t, a in (b,c),!d",
            (needs("gpuyard.io/run", "In", "t"), needs("a", "In", "b", "c"), needs("d", "DoesNotExist")),
        ),
    ],
)
def test_reads_label_selectors(text: str, requirements: tuple[Requirement, ...]) -> None:
    assert parse_label_selector(text).requirements == requirements


@pytest.mark.parametrize(
    "text",
    ["=b", "a=b=c", "a b", "a in b", "a in (b", "a in b)", "!", "!!a", "!a in (b)", "a=b c", "-a=b", "!a=b"],
)
def test_refuses_label_selectors(text: str) -> None:
    with pytest.raises(ValueError, match="unable to parse requirement"):
        parse_label_selector(text)


@pytest.mark.parametrize(
    ("requirement", "labels", "matches"),
    [
        (needs("a", "In", "x", "y"), {"a": "y"}, True),
        (needs("a", "In", "x"), {"a": "y"}, False),
        (needs("a", "In", ""), {}, False),
        (needs("a", "NotIn", "x"), {}, True),
        (needs("a", "NotIn", "x"), {"a": "x"}, False),
        (needs("a", "Exists"), {"a": ""}, True),
        (needs("a", "DoesNotExist"), {"a": ""}, False),
        (needs("a", "Gt", "9"), {"a": "10"}, True),
        (needs("a", "Gt", "10"), {"a": "10"}, False),
        (needs("a", "Lt", "-1"), {"a": "-2"}, True),
        (needs("a", "Gt", "1"), {}, False),
        (needs("a", "Gt"), {"a": "1"}, False),
        (needs("a", "Gt", "x"), {"a": "1"}, False),
        (needs("a", "Gt", "1"), {"a": "5_0"}, False),
        (needs("a", "Lt", "1"), {"a": ""}, False),
    ],
)
def test_matches(requirement: Requirement, labels: dict[str, str], matches: bool) -> None:
    assert requirement.matches(labels) is matches


def test_an_unknown_operator_is_an_error() -> None:
    with pytest.raises(ValueError, match="'in' is not a selector operator"):
        needs("a", "in", "b").matches({"a": "b"})


def test_reads_match_expressions() -> None:
    assert requirements_of([{"key": "c", "operator": "In", "values": ["x"]}]) == (needs("c", "In", "x"),)


WORDS = st.text("abc", min_size=1, max_size=2)


@given(
    st.lists(
        st.builds(
            Requirement, WORDS, st.sampled_from(["In", "NotIn"]), st.lists(WORDS, min_size=1).map(tuple)
        )
        | st.builds(Requirement, WORDS, st.sampled_from(["Exists", "DoesNotExist"]))
    )
)
def test_what_is_written_is_read_as_it_was(requirements: list[Requirement]) -> None:
    words = {"In": "{} in ({})", "NotIn": "{} notin ({})", "Exists": "{}", "DoesNotExist": "!{}"}
    text = ",".join(words[r.operator].format(r.key, ",".join(r.values)) for r in requirements)
    assert parse_label_selector(text) == Selector(tuple(requirements))


@given(st.dictionaries(WORDS, WORDS), WORDS, WORDS)
def test_each_operator_is_the_opposite_of_its_pair(labels: dict[str, str], key: str, value: str) -> None:
    for text, opposite in [(f"{key}={value}", f"{key}!={value}"), (key, f"!{key}")]:
        assert parse_label_selector(text).matches(labels) is not parse_label_selector(opposite).matches(
            labels
        )


POD = {
    "metadata": {"name": "p", "namespace": "d"},
    "spec": {"hostNetwork": True, "nodeName": None},
    "status": {"phase": "Running", "count": 3},
}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("metadata.name=p", True),
        ("metadata.name==p,status.phase!=Failed", True),
        ("metadata.name!=p", False),
        ("metadata.name=p,metadata.namespace=e", False),
        ("spec.nodeName=", True),
        ("spec.nodeName!=", False),
        ("spec.schedulerName=", True),
        ("status.phase.deeper=", True),
        ("spec.hostNetwork=true", True),
        ("status.count=3", True),
    ],
)
def test_field_selectors(text: str, matches: bool) -> None:
    assert parse_field_selector(text).matches(POD) is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("a=b,metadata.name in (a)", "can't understand 'metadata.name in"),
    ],
)
def test_refuses_field_selectors(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_field_selector(text)


def test_field_text() -> None:
    assert field_text({"a": {"b": False}}, "a.b") == "false"


def test_a_selector_of_many_commas_is_read_in_one_pass() -> None:
    # One look ahead for each comma would outlast the test run.
    assert parse_label_selector("," * 1_000_000).requirements == ()
    assert len(parse_label_selector("a in (b,c)," * 100_000).requirements) == 100_000


def test_numbers_of_thousands_of_digits_match_nothing() -> None:
    assert not Requirement("a", "Gt", ("9" * 5000,)).matches({"a": "1"})


def test_an_absent_selector_matches_nothing_and_an_empty_one_everything() -> None:
    assert not selects(None, {"a": "b"})
    assert selects({}, {"a": "b"})
    assert selects({"matchLabels": {"a": "b"}}, {"a": "b"})
    assert not selects({"matchLabels": {"a": "c"}}, {"a": "b"})
