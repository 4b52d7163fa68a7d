import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.kube.quantity import canonical_quantity, parse_quantity

_SUFFIXES = ["", "m", "u", "n", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E-2"]


@pytest.mark.parametrize(
    ("given_", "canonical"),
    [
        ("0.5", "500m"), ("1500m", "1500m"), ("1000m", "1"), ("1000", "1k"), ("100000", "100k"), ("0", "0"),
        ("1024Ki", "1Mi"), ("1.5Gi", "1536Mi"), ("0.5Gi", "512Mi"), ("0.5Ki", "512"), ("1023Ki", "1023Ki"),
        ("-2Gi", "-2Gi"), ("1e3", "1e3"), ("1e4", "10e3"), ("1e-3", "1e-3"), ("0.1n", "1n"), ("0m", "0"),
    ],
)  # fmt: skip
def test_as_kubernetes_writes_it(given_: str, canonical: str) -> None:
    assert canonical_quantity(given_) == canonical


@given(st.integers(-(10**6), 10**6), st.integers(0, 999), st.sampled_from(_SUFFIXES))
def test_it_means_the_same_but_for_less_than_a_nano(whole: int, fraction: int, suffix: str) -> None:
    text = f"{whole}.{fraction:03}{suffix}"
    canonical = canonical_quantity(text)
    assert abs(parse_quantity(canonical) - parse_quantity(text)) < parse_quantity("1n")
    assert canonical_quantity(canonical) == canonical


def test_what_is_no_quantity_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        canonical_quantity("1 GB")
