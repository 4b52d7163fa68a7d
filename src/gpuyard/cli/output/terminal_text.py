"""What may reach a terminal of texts that others wrote: names, messages of events and of containers, answers.

A terminal obeys control characters: they clear it, write over lines, set its title. Kubernetes lets whoever
has a pod or writes an event put them into what others read (CVE-2021-25743 of kubectl).
"""

from __future__ import annotations

import io
import sys

#: C0 but tab and newline, DEL, C1; line separators; and what turns the direction of text around.
_CONTROLS = (
    *(code for code in range(0x20) if chr(code) not in "\t\n"),
    *range(0x7F, 0xA0),
    *(0x2028, 0x2029),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
_WRITTEN = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _CONTROLS}


def plain(text: str) -> str:
    r"""The text with its control characters written out: `\x1b`."""
    return text.translate(_WRITTEN)


class PlainStream(io.TextIOWrapper):
    """A text stream that obeys nobody's control characters; its `buffer` takes bytes as they are."""

    def write(self, text: str) -> int:
        """Writes the text as `plain` has it."""
        return super().write(plain(text))


def make_streams_plain() -> None:
    """Makes standard output and standard error so."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()
            same = PlainStream(
                stream.buffer,
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, same)
