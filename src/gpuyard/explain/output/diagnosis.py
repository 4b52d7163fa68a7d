"""What a failed run's output says of why it failed: each known cause once, with what would mend it (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gpuyard.advice import advice
from gpuyard.explain.causes import Cause
from gpuyard.explain.output.cuda import CUDA_LINES
from gpuyard.explain.output.python import PASS_PYTHONPATH, PYTHON_LINES
from gpuyard.explain.output.shell import SHELL_LINES
from gpuyard.explain.output.system import SYSTEM_LINES

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_MOST_CHARACTERS = 2_000


@dataclass(frozen=True)
class Diagnosis:
    """One cause that the output names.

    Attributes:
        key: the cause as one word, for machines.
        line: the line that says so.
        cause: what it means, in the user's terms.
        remedy: what would mend it.
    """

    key: Cause
    line: str
    cause: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        """All fields."""
        return {"key": self.key, "line": self.line, "cause": self.cause, "remedy": self.remedy}


_LINES = (*CUDA_LINES, *PYTHON_LINES, *SHELL_LINES, *SYSTEM_LINES)


def diagnose(
    lines: Iterable[str],
    *,
    python: str = "the Python that ran it",
    in_image: bool = False,
    has_pythonpath: bool = False,
) -> list[Diagnosis]:
    """Each cause once, in the order in which the output names them first.

    Args:
        lines: of the output.
        python: what to call the interpreter, its path where that is known.
        in_image: the run is in an image, not a process of a host.
        has_pythonpath: the shell that submitted the run had a PYTHONPATH, which the run was not given.
    """
    found: dict[Cause, Diagnosis] = {}
    for raw in lines:
        line = _ANSI.sub("", raw)[:_MOST_CHARACTERS].strip()
        for known in _LINES:
            if match := known.pattern.search(line):
                groups = {name: _readable(name, text or "") for name, text in match.groupdict().items()}
                remedy = known.in_image if in_image else known.remedy
                if known.cause is Cause.MODULE_MISSING and has_pythonpath and not in_image:
                    remedy = PASS_PYTHONPATH
                meaning = known.meaning.format(**groups, python=python)
                found.setdefault(known.cause, Diagnosis(known.cause, line, meaning, advice(remedy)))
                break
    return list(found.values())


def _readable(name: str, text: str) -> str:
    """torch writes CUDA 12.4 as 12040."""
    if name == "found":
        major, minor = divmod(int(text), 1000)
        return f"{major}.{minor // 10}"
    return text.strip()
