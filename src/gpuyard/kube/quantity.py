"""Kubernetes quantities: `500m`, `2`, `1.5Gi`, `1e3`.

Source: apimachinery `pkg/api/resource/quantity.go`.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

_FORM = re.compile(
    r"^([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:(m|u|n|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)|[eE]([+-]?\d{1,2}))?\Z",
    re.ASCII,
)
_PLAIN = re.compile(r"(\d{1,30})([KMGTPE]i)?\Z", re.ASCII)
_TENS = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DIGITS = 60
#: Longer than any amount: arithmetic on thousands of digits takes its time.
_MAX_CHARACTERS = 100
_DECIMAL_SUFFIX = {-9: "n", -6: "u", -3: "m", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}


def parse_quantity(text: str | int | float) -> Decimal:
    """The exact value in base units (cores, bytes, devices).

    Raises:
        ValueError: not a quantity.
    """
    from decimal import Decimal, localcontext

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
            value *= _scales()[suffix]
        elif exponent:
            value *= Decimal(10) ** int(exponent)
    return value


@cache
def _scales() -> Mapping[str, Decimal]:
    from decimal import Decimal

    tens = {suffix: Decimal(f"1e{power}") for suffix, power in _TENS.items()}
    return tens | {suffix: Decimal(scale) for suffix, scale in _BINARY.items()}


def _whole(text: str | int | float) -> int | None:
    """The value of what is plainly whole, such as 8 or 16Gi, without `decimal`, which is long to import."""
    match = _PLAIN.match(str(text))
    return int(match[1]) * _BINARY.get(match[2], 1) if match else None


def to_milli(text: str | int | float) -> int:
    """Thousandths, rounded up as Kubernetes does (`Quantity.MilliValue`)."""
    whole = _whole(text)
    if whole is not None:
        return 1000 * whole
    return _ceil(_shifted(parse_quantity(text), 3))


def to_int(text: str | int | float) -> int:
    """Whole units, rounded up as Kubernetes does (`Quantity.Value`)."""
    whole = _whole(text)
    if whole is not None:
        return whole
    return _ceil(parse_quantity(text))


def format_bytes(count: int) -> str:
    """The largest binary unit that loses nothing: 17179869184 → `16Gi`."""
    for unit in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
        scale = _BINARY[unit]
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
    from decimal import localcontext

    with localcontext() as context:
        context.prec = _DIGITS
        return value.scaleb(places)


def _ceil(value: Decimal) -> int:
    whole = int(value)
    return whole + 1 if value > whole else whole
