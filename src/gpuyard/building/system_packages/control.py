"""Control files of Debian (deb822): paragraphs of fields, in indexes, in packages and in dpkg's database.

Own code, although python-debian is well kept: a distribution's index has 64,000 paragraphs, of which a
build reads some hundreds. To cut it into paragraphs takes 0.15 s, to parse all of them 6 s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_BLANK = re.compile(r"\n[ \t]*(?:\n[ \t]*)*\n")

#: Field name in lower case → value, lines joined by newlines as they are written.
Fields = Mapping[str, str]


def split_paragraphs(text: str) -> list[str]:
    """The paragraphs of a control file, without the blank lines between them."""
    # Most are divided by one newline, for which a plain split is ten times as fast.
    parts = text.replace("\r\n", "\n").split("\n\n")
    return [inner for part in parts for inner in _BLANK.split(part.strip("\n")) if inner.strip()]


def parse_fields(paragraph: str) -> Fields:
    """A paragraph's fields; lines that begin with # are comments."""
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t"):
            if name:
                fields[name] += "\n" + line
            continue
        head, colon, value = line.partition(":")
        name = head.strip().lower() if colon else ""
        if name:
            fields[name] = value.strip()
    return fields


def read_paragraphs(text: str) -> Iterator[Fields]:
    """Every paragraph's fields."""
    return map(parse_fields, split_paragraphs(text))
