"""Versions of drivers and of CUDA, compute capabilities, and architectures that code is made for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

_VERSION = re.compile(r"\s*[rRvV]?([0-9]{1,9}(?:\.[0-9]{1,9})*)")
_TARGET = re.compile(r"(?:sm_|compute_)?([0-9]{1,2})\.?([0-9])([af]?)", re.ASCII)


@dataclass(frozen=True, order=True)
class Version:
    """Numbers joined by dots, compared as numbers; a shorter one is below its longer ones (12.4 < 12.4.1).

    Attributes:
        parts: the numbers.
        text: as it was written; driver versions have leading zeros.
    """

    parts: tuple[int, ...]
    text: str = field(compare=False, default="")

    @classmethod
    def parse(cls, text: str) -> Version:
        """Reads `535.104.05`, `R535`, `12.4.1`; whatever follows the numbers is dropped.

        Raises:
            ValueError: it doesn't start with a number.
        """
        match = _VERSION.match(text)
        if match is None:
            raise ValueError(f"{text!r} is not a version; write for example 535.104.05")
        return cls(tuple(map(int, match[1].split("."))), match[1])

    @property
    def major(self) -> int:
        """The first number: of a driver, its branch."""
        return self.parts[0]

    @cached_property
    def minor(self) -> Version:
        """The first two numbers; 13 is 13.0."""
        parts = (*self.parts, 0)[:2]
        return Version(parts, f"{parts[0]}.{parts[1]}")

    def __str__(self) -> str:
        return self.text or ".".join(map(str, self.parts))


@dataclass(frozen=True, order=True)
class Capability:
    """A compute capability, such as 9.0."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Capability:
        """Reads `9.0`; `9` is 9.0.

        Raises:
            ValueError: no such form.
        """
        major, minor = Version.parse(text).minor.parts
        return cls(major, minor)

    @property
    def sm(self) -> str:
        """As code for it is called: `sm_90`."""
        return f"sm_{self.major}{self.minor}"

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True, order=True)
class CodeTarget:
    """What machine code was made for: `sm_90`, `sm_90a` (that capability alone), `sm_120f` (its family)."""

    capability: Capability
    suffix: str = ""

    def __str__(self) -> str:
        return f"sm_{self.capability.major}{self.capability.minor}{self.suffix}"


@dataclass(frozen=True)
class Architectures:
    """What a program's GPU code can run on: machine code, and PTX that the driver compiles."""

    cubins: frozenset[CodeTarget]
    ptx: frozenset[Capability] = frozenset()

    @classmethod
    def parse(cls, words: Iterable[str]) -> Architectures:
        """Reads torch's way of writing them: `90`, `9.0`, `sm_90a`, `120+PTX`, `compute_120`.

        Raises:
            ValueError: a word that is none of these.
        """
        cubins: set[CodeTarget] = set()
        ptx: set[Capability] = set()
        for word in words:
            text, plus, _ = word.partition("+")
            match = _TARGET.fullmatch(text)
            if match is None:
                raise ValueError(f"{word!r} is not an architecture; write for example 9.0 or 9.0+PTX")
            capability = Capability(int(match[1]), int(match[2]))
            if plus or text.startswith("compute_"):
                ptx.add(capability)
            if not text.startswith("compute_"):
                cubins.add(CodeTarget(capability, match[3]))
        return cls(frozenset(cubins), frozenset(ptx))

    def __str__(self) -> str:
        words = [str(target) for target in sorted(self.cubins)]
        return " ".join([*words, *(f"compute_{c.major}{c.minor}" for c in sorted(self.ptx))])
