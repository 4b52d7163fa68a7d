"""One line that is known: its pattern, what it means, and what would mend it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gpuyard.explain.causes import Cause

#: Of all lines, and the place of the one that matched: whether those around it say that it ends nothing.
Unless: TypeAlias = Callable[[Sequence[str], int], bool]


def _never(lines: Sequence[str], at: int) -> bool:
    return False


@dataclass(frozen=True)
class KnownLine:
    """`{name}` in the meaning is the pattern's group of that name, `{python}` the interpreter.

    `in_image` is the remedy of a run in an image, where that is another.
    """

    cause: Cause
    pattern: re.Pattern[str]
    meaning: str
    remedy: str
    in_image: str
    unless: Unless


def known(
    cause: Cause, pattern: str, meaning: str, remedy: str, in_image: str = "", unless: Unless = _never
) -> KnownLine:
    """A known line by the text of its pattern."""
    return KnownLine(cause, re.compile(pattern), meaning, remedy, in_image or remedy, unless)
