from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.kube.quantity import (
    canonical_quantity,
    format_bytes,
    format_milli,
    parse_quantity,
    to_int,
    to_milli,
)

SUFFIXES: dict[str, Fraction] = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", 1)},
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", "0"),
        ("500m", "0.5"),
        ("1.5Gi", "1610612736"),
        (".5", "0.5"),
        ("1.", "1"),
        ("+2", "2"),
        ("-2k", "-2000"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1E", "1000000000000000000"),
        ("12e-2", "0.12"),
        ("100n", "0.0000001"),
        ("9007199254740993Ei", str(9007199254740993 * 2**60)),
        (4, "4"),
        (0.1, "0.1"),
        (1e-07, "0.0000001"),
    ],
)
def test_reads(text: str | float, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize(
    "text",
    ["", " ", "1 ", " 1", "1\n", "Gi", "1gi", "1K", "1mi", "1e", "1e1.5", "1Gi2", "1,5", "--1", ".", "0x1",
     "٣", "nan", "inf", "1_000", "1e100", True, float("nan")],
)  # fmt: skip
def test_refuses(text: str | float) -> None:
    with pytest.raises(ValueError, match="is not a quantity; write a number"):
        parse_quantity(text)


@given(st.integers(0, 10**15), st.integers(0, 999_999), st.sampled_from(sorted(SUFFIXES)))
def test_is_exact(whole: int, part: int, suffix: str) -> None:
    exact = (whole + Fraction(part, 10**6)) * SUFFIXES[suffix]
    text = f"{whole}.{part:06}{suffix}"
    assert Fraction(parse_quantity(text)) == exact
    assert to_int(text) == -(-exact // 1)
    assert to_milli(text) == -(-exact * 1000 // 1)


@pytest.mark.parametrize(
    ("text", "milli"), [("1u", 1), ("1001u", 2), ("-1500u", -1), ("0.1", 100), ("2", 2000)]
)
def test_milli_rounds_up(text: str, milli: int) -> None:
    assert to_milli(text) == milli


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (1023, "1023"), (1024, "1Ki"), (2**34, "16Gi"), (2**30 + 2**20, "1025Mi"), (2**60, "1Ei")],
)
def test_bytes_take_the_largest_unit(count: int, text: str) -> None:
    assert format_bytes(count) == text


@given(st.integers(0, 2**70))
def test_what_is_written_is_read_as_it_was(amount: int) -> None:
    assert to_int(format_bytes(amount)) == amount
    assert to_milli(format_milli(amount)) == amount


def test_a_quantity_of_thousands_of_digits_is_none() -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity("9" * 100_000)


_SUFFIXES = ["", "m", "u", "n", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E-2"]


@pytest.mark.parametrize(
    ("given_", "canonical"),
    [
        ("0.5", "500m"), ("1500m", "1500m"), ("1000m", "1"), ("1000", "1k"), ("100000", "100k"), ("0", "0"),
        ("1024Ki", "1Mi"), ("1.5Gi", "1536Mi"), ("0.5Gi", "512Mi"), ("0.5Ki", "512"), ("1023Ki", "1023Ki"),
        ("-2Gi", "-2Gi"), ("1e3", "1e3"), ("1e4", "10e3"), ("1e-3", "1e-3"), ("0.1n", "1n"), ("0m", "0"),
    ],
)  # fmt: skip
def test_the_canonical_form_is_as_kubernetes_writes_it(given_: str, canonical: str) -> None:
    assert canonical_quantity(given_) == canonical


@given(st.integers(-(10**6), 10**6), st.integers(0, 999), st.sampled_from(_SUFFIXES))
def test_the_canonical_form_loses_less_than_a_nano(whole: int, fraction: int, suffix: str) -> None:
    text = f"{whole}.{fraction:03}{suffix}"
    canonical = canonical_quantity(text)
    assert abs(parse_quantity(canonical) - parse_quantity(text)) < parse_quantity("1n")
    assert canonical_quantity(canonical) == canonical


def test_what_is_no_quantity_has_no_canonical_form() -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        canonical_quantity("1 GB")
