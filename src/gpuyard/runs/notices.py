"""What a caller should hear of while something is done with a run: results are values, notices are calls."""

from __future__ import annotations

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
