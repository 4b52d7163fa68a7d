"""What a caller should hear of while something is done with a run: results are values, notices are calls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class NoticeKind(StrEnum):
    """How a notice is meant."""

    #: What was decided or done for the user.
    NOTE = "note"
    #: What may go otherwise than the user expects.
    WARNING = "warning"
    #: What goes on although the user interrupted the command.
    INTERRUPT = "interrupt"


@dataclass(frozen=True)
class Notice:
    """One message, as a sentence that needs no context.

    Attributes:
        text: without the word for its kind, and without a full stop at the end.
        kind: how it is meant.
    """

    text: str
    kind: NoticeKind = NoticeKind.NOTE


#: Takes notices one by one, in the order of what happened. It must not block.
Notify: TypeAlias = Callable[[Notice], None]


def ignore(notice: Notice) -> None:
    """A `Notify` for a caller who wants none."""


class Late:
    """Says once what is waited for, when that takes over a second."""

    _AFTER_S = 1.0

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._now = asyncio.get_running_loop().time
        self._say_at = self._now() + self._AFTER_S

    def say(self, text: Callable[[], str]) -> None:
        """Looks whether it is time to."""
        if self._now() > self._say_at:
            self._say_at = math.inf
            self._notify(Notice(text()))
