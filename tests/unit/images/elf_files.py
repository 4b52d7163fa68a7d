"""Shared libraries of any machine, as small as they can be: program headers and no code."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from gpuyard.elf import X86_64


def make_elf(
    soname: str = "",
    needed: Sequence[str] = (),
    *,
    rpath: str = "",
    runpath: str = "",
    versions: Mapping[str, Sequence[str]] | None = None,
    bits: int = 64,
    machine: int = X86_64,
    big_endian: bool = False,
    padding: int = 0,
) -> bytes:
    """A library that the loader would read as such.

    Args:
        padding: bytes between the names and the table that points to them, as code is.
    """
    wide, order = bits == 64, ">" if big_endian else "<"
    names = bytearray(b"\0")

    def name(text: str) -> int:
        at = len(names)
        names.extend(text.encode() + b"\0")
        return at

    tags = [(1, name(text)) for text in needed]
    tags += [(tag, name(text)) for tag, text in ((14, soname), (15, rpath), (29, runpath)) if text]
    verneed = bytearray()
    for left, (file, wanted) in reversed(list(enumerate((versions or {}).items()))):
        last = left == len(versions or {}) - 1
        size = 16 + 16 * len(wanted)
        verneed[:0] = struct.pack(
            f"{order}HHIII", 1, len(wanted), name(file), 16, 0 if last else size
        ) + b"".join(
            struct.pack(f"{order}IHHII", 0, 0, 0, name(text), 0 if index == len(wanted) - 1 else 16)
            for index, text in enumerate(wanted)
        )
    header_size, entry_size = (64, 56) if wide else (52, 32)
    names_at = header_size + 2 * entry_size
    verneed_at = names_at + len(names)
    dynamic_at = verneed_at + len(verneed) + padding
    # Loaded elsewhere than it lies in the file, as most are.
    address = 0x1000
    tags += [(5, address + names_at), (10, len(names))]
    if versions:
        tags += [(0x6FFFFFFE, address + verneed_at), (0x6FFFFFFF, len(versions))]
    dynamic = b"".join(struct.pack(order + ("QQ" if wide else "II"), *tag) for tag in [*tags, (0, 0)])
    whole = dynamic_at + len(dynamic)
    segments = ((1, 0, address, whole), (2, dynamic_at, address + dynamic_at, len(dynamic)))
    ident = b"\x7fELF" + bytes((2 if wide else 1, 2 if big_endian else 1, 1)) + b"\0" * 9
    layout = order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
    header = struct.pack(layout, 3, machine, 1, 0, header_size, 0, 0, header_size, entry_size, 2, 0, 0, 0)
    if wide:
        table = [
            struct.pack(f"{order}IIQQQQQQ", kind, 4, at, where, where, size, size, 8)
            for kind, at, where, size in segments
        ]
    else:
        table = [
            struct.pack(f"{order}IIIIIIII", kind, at, where, where, size, size, 4, 4)
            for kind, at, where, size in segments
        ]
    return ident + header + b"".join(table) + bytes(names) + bytes(verneed) + bytes(padding) + dynamic
