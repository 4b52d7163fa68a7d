"""References to variables of the submitting shell, in values of a spec file (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: `$${` stands for itself less a dollar; `${NAME}` is a reference; another `${` is a slip.
_REFERENCE = r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{"


def expand(value: str, shell: Mapping[str, str]) -> tuple[str, list[str]]:
    """The value with `${NAME}` replaced, and what is wrong with its references.

    Any other dollar stands for itself: `$NAME`, `$(NAME)` and `$$` are as they were written.

    Args:
        value: as the file has it.
        shell: the submitting shell's environment.
    """
    problems: list[str] = []

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if match[0] == "$${":
            return "${"
        if name is None:
            problems.append("`${` begins a variable of your shell: write ${NAME}, or $${ for the text itself")
            return ""
        if name not in shell:
            problems.append(f"{name} isn't set in your shell; export it, or write $${{{name}}} for the text")
            return ""
        return shell[name]

    return re.sub(_REFERENCE, replace, value), problems
