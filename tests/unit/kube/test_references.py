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


@given(st.text(st.sampled_from("$()AB_ \n")) | st.text())
def test_escaped_text_comes_back_as_it_was(text: str) -> None:
    assert expand_references(escape_references(text), {"A": "1", "B": "2", "": "3"}) == text


@pytest.mark.parametrize("text", ["plain", "$HOME", "50$", "a$b"])
def test_text_without_references_stays_readable(text: str) -> None:
    assert escape_references(text) == text
