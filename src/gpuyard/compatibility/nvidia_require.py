"""`NVIDIA_REQUIRE_*`: what an image asks of driver, CUDA, brand and architecture, and whether a node has it.

Source: NVIDIA/nvidia-container-toolkit README and internal/requirements/constraints. A space is OR, a comma
AND, several variables AND. Only the legacy runtime and Tegra's check it; CDI, the default since toolkit 1.18,
doesn't.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gpuyard.compatibility.version import Version

#: The properties that are known; an image may name others, which count as satisfied.
CUDA, DRIVER, ARCH, BRAND = "cuda", "driver", "arch", "brand"

_PREFIX = "NVIDIA_REQUIRE_"
_JETPACK = _PREFIX + "JETPACK"
_TERM = re.compile(r"(?P<property>[A-Za-z_]+)(?P<operator>!=|<=|>=|=|<|>)(?P<value>[^\s,]+)")
_TRUE = frozenset({"1", "t", "T", "true", "True", "TRUE"})
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}  # fmt: skip


@dataclass(frozen=True)
class Term:
    """One comparison, such as `driver>=535`."""

    property: str
    operator: str
    value: str

    def holds(self, properties: Mapping[str, str]) -> bool | None:
        """Whether it holds; None when the property of the node isn't known."""
        if self.property not in (CUDA, DRIVER, ARCH, BRAND):
            return True
        actual = properties.get(self.property, "")
        if not actual:
            return None
        compare = _COMPARE[self.operator]
        if self.property == BRAND:
            return compare(actual, self.value)
        try:
            return compare(*_padded(actual, self.value))
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"{self.property}{self.operator}{self.value}"


@dataclass(frozen=True)
class NvidiaRequirement:
    """One variable: alternatives, of each of which all terms must hold."""

    variable: str
    alternatives: tuple[tuple[Term, ...], ...]

    def holds(self, properties: Mapping[str, str]) -> bool | None:
        """Whether a node with these properties satisfies it; None when that depends on an unknown one."""
        return _any(_all(term.holds(properties) for term in terms) for terms in self.alternatives)

    def __str__(self) -> str:
        return " ".join(",".join(map(str, terms)) for terms in self.alternatives)


def parse_requirement(variable: str, text: str) -> NvidiaRequirement:
    """Reads one variable's value.

    Raises:
        ValueError: a word that is no comparison.
    """
    alternatives = []
    for word in text.split():
        terms = []
        for part in word.split(","):
            match = _TERM.fullmatch(part)
            if match is None:
                raise ValueError(f"{variable}: {part!r} is no requirement such as cuda>=12.4")
            terms.append(Term(match["property"], match["operator"], match["value"]))
        alternatives.append(tuple(terms))
    return NvidiaRequirement(variable, tuple(alternatives))


def requirements_of(env: Mapping[str, str]) -> tuple[NvidiaRequirement, ...]:
    """All that must hold for an image with this environment; none when it switches them off.

    What can't be read is left out, as a runtime would refuse it before any node is looked at.
    """
    if env.get("NVIDIA_DISABLE_REQUIRE", "") in _TRUE:
        return ()
    found = []
    for variable in sorted(env):
        if variable.startswith(_PREFIX) and not variable.startswith(_JETPACK) and env[variable].strip():
            try:
                found.append(parse_requirement(variable, env[variable]))
            except ValueError:
                continue
    if env.get("CUDA_VERSION") and _PREFIX + "CUDA" not in env:
        try:
            least = Version.parse(env["CUDA_VERSION"]).minor
        except ValueError:
            return tuple(found)
        found.append(parse_requirement("CUDA_VERSION", f"cuda>={least}"))
    return tuple(found)


def _padded(actual: str, value: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    # The toolkit compares as semantic versions: 12.4 equals 12.4.0.
    left, right = Version.parse(actual).parts, Version.parse(value).parts
    length = max(len(left), len(right))
    return left + (0,) * (length - len(left)), right + (0,) * (length - len(right))


def _all(values: Iterable[bool | None]) -> bool | None:
    known = list(values)
    return False if False in known else None if None in known else True


def _any(values: Iterable[bool | None]) -> bool | None:
    known = list(values)
    return True if True in known or not known else None if None in known else False
