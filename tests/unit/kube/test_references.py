from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.kube.references import escape_references, expand_references


# From expansion_test.go of Kubernetes.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("$(VAR_A)$(VAR_B)", "AB"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("$$(VAR_A)_$(VAR_A)", "$(VAR_A)_A"),
        ("$$$$(FOO)$(BAR)", "$$(FOO)$(BAR)"),
        ("$$$(VAR_A)", "$A"),
        ("foo$$var$$", "foo$var$"),
        ("$VAR_A", "$VAR_A"),
        ("$(VAR_A", "$(VAR_A"),
        ("$", "$"),
        ("$?", "$?"),
        ("$()", "$()"),
    ],
)
def test_expands_as_kubernetes_does(text: str, expected: str) -> None:
    assert expand_references(text, {"VAR_A": "A", "VAR_B": "B"}) == expected


def test_what_would_get_longer_than_allowed_is_refused_before_it_is_made() -> None:
    assert expand_references("$(A)$(A)", {"A": "x" * 50}, longest=100) == "x" * 100
    with pytest.raises(ValueError, match="longer than 100"):
        expand_references("$(A)" * 1_000_000, {"A": "x" * 1_000_000}, longest=100)


def test_half_references_without_end_take_no_time_each() -> None:
    half = "$(" * 500_000
    assert expand_references(f"{half}", {}) == half
    assert expand_references(f"$(A)$${half}", {"A": "1"}) == f"1${half}"


@given(st.text(st.sampled_from("$()AB_ \n")) | st.text())
def test_escaped_text_comes_back_as_it_was(text: str) -> None:
    assert expand_references(escape_references(text), {"A": "1", "B": "2", "": "3"}) == text


@pytest.mark.parametrize("text", ["plain", "$HOME", "50$", "a$b"])
def test_text_without_references_stays_readable(text: str) -> None:
    assert escape_references(text) == text
