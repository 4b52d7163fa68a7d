"""Kubernetes quantities: `500m`, `2`, `1.5Gi`, `1e3`.

Source: apimachinery `pkg/api/resource/quantity.go`.
"""

from __future__ import annotations

import re
from decimal import Decimal, localcontext
from functools import lru_cache

_FORM = re.compile(
    r"^([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:(m|u|n|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)|[eE]([+-]?\d{1,2}))?\Z",
    re.ASCII,
)
_SCALE = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
    "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
_DIGITS = 60
#: Longer than any amount: arithmetic on thousands of digits takes its time.
_MAX_CHARACTERS = 100
_DECIMAL_SUFFIX = {-9: "n", -6: "u", -3: "m", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}


def parse_quantity(text: str | int | float) -> Decimal:
    """The exact value in base units (cores, bytes, devices).

    Raises:
        ValueError: not a quantity.
    """
    match = _FORM.match(str(text)) if len(str(text)) <= _MAX_CHARACTERS else None
    if match is None:
        raise ValueError(
            f"{str(text)[:_MAX_CHARACTERS]!r} is not a quantity; write a number with an optional suffix "
            "such as 500m, 2, 16Gi"
        )
    number, suffix, exponent = match.groups()
    with localcontext() as context:
        context.prec = _DIGITS
        value = Decimal(number)
        if suffix:
            value *= _SCALE[suffix]
        elif exponent:
            value *= Decimal(10) ** int(exponent)
    return value


def to_milli(text: str | int | float) -> int:
    """Thousandths, rounded up as Kubernetes does (`Quantity.MilliValue`)."""
    return _ceil(_shifted(parse_quantity(text), 3))


def to_int(text: str | int | float) -> int:
    """Whole units, rounded up as Kubernetes does (`Quantity.Value`)."""
    return _ceil(parse_quantity(text))


def format_bytes(count: int) -> str:
    """The largest binary unit that loses nothing: 17179869184 → `16Gi`."""
    for unit in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
        scale = int(_SCALE[unit])
        if count and count % scale == 0:
            return f"{count // scale}{unit}"
    return str(count)


def format_milli(milli: int) -> str:
    """1500 → `1500m`, 2000 → `2`."""
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


@lru_cache(maxsize=4096)
def canonical_quantity(text: str) -> str:
    """As Kubernetes writes it back: no fraction, the largest suffix: `0.5` → `500m`, `1024Mi` → `1Gi`.

    Source: `Quantity.CanonicalizeBytes`.

    Raises:
        ValueError: not a quantity.
    """
    value = parse_quantity(text)
    match = _FORM.match(text)
    if match and (match[2] or "").endswith("i") and abs(value) >= 1024 and value == int(value):
        return format_bytes(int(value))
    billionths = _shifted(value, 9)
    nano = _ceil(billionths) if value > 0 else -_ceil(-billionths)
    power = -9
    while nano and power < 18 and nano % 1000 == 0:
        nano, power = nano // 1000, power + 3
    if not nano or power == 0:
        return str(nano)
    return f"{nano}e{power}" if match and match[3] is not None else f"{nano}{_DECIMAL_SUFFIX[power]}"


def _shifted(value: Decimal, places: int) -> Decimal:
    """Times a power of ten, exact: arithmetic of its own accord keeps 28 digits only."""
    with localcontext() as context:
        context.prec = _DIGITS
        return value.scaleb(places)


def _ceil(value: Decimal) -> int:
    whole = int(value)
    return whole + 1 if value > whole else whole
