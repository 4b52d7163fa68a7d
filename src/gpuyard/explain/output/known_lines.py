"""One line that is known: its pattern, what it means, and what would mend it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpuyard.explain.causes import Cause


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


def known(cause: Cause, pattern: str, meaning: str, remedy: str, in_image: str = "") -> KnownLine:
    """A known line by the text of its pattern."""
    return KnownLine(cause, re.compile(pattern), meaning, remedy, in_image or remedy)
