"""The text form of a set of completion indexes: `0-2,5` (pure).

Source: batch/v1 `JobStatus.completedIndexes`.
"""

from __future__ import annotations

from collections.abc import Iterable


def parse_indexes(text: str, completions: int) -> frozenset[int]:
    """The indexes below `completions`; text that isn't of this form counts as none.

    They ascend, so that none is looked at twice, however often a text names it.
    """
    found: set[int] = set()
    following = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            start, end = int(first), int(last or first)
        except ValueError:
            continue
        end = min(end + 1, completions)
        found.update(range(max(start, following), end))
        following = max(following, end)
    return frozenset(found)


def format_indexes(indexes: Iterable[int]) -> str:
    """Ascending, with a dash for three or more in a row, as Kubernetes writes it."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(_format_run(first, last) for first, last in runs)


def _format_run(first: int, last: int) -> str:
    if first == last:
        return str(first)
    return f"{first},{last}" if last == first + 1 else f"{first}-{last}"
