from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.kube.names import is_label, is_subdomain, random_suffix


@pytest.mark.parametrize("name", ["a", "0", "a-b", "a--b", "train-7", "a" * 63])
def test_labels(name: str) -> None:
    assert is_label(name)
    assert is_subdomain(name)


@pytest.mark.parametrize("name", ["a.b", "a-b.c-d", "0.0", "a" * 253, "kube-root-ca.crt"])
def test_subdomains(name: str) -> None:
    assert not is_label(name)
    assert is_subdomain(name)


@pytest.mark.parametrize(
    "name", ["", "-", "A", "a_b", "-a", "a-", "a b", "a\n", "ä", "a..b", ".a", "a.", "a.-b", "a/b", "a" * 254]
)
def test_neither(name: str) -> None:
    assert not is_label(name)
    assert not is_subdomain(name)


@given(st.from_regex(r"[a-z0-9.\-]{0,70}", fullmatch=True))
def test_a_subdomain_is_labels_with_dots_but_for_their_length(name: str) -> None:
    parts = name.split(".")
    if max(map(len, parts)) <= 63:
        assert is_subdomain(name) is all(map(is_label, parts))


@given(st.randoms(use_true_random=False), st.integers(1, 10))
def test_a_suffix_can_end_any_name(rng: random.Random, length: int) -> None:
    suffix = random_suffix(rng, length)
    assert len(suffix) == length
    assert is_label(f"a-{suffix}")
    assert not set(suffix) & set("aeiou013")
