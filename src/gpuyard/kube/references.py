"""`$(NAME)` in a container's command, args and env values: expanding it, and escaping text against it.

Source: k8s.io/kubernetes `third_party/forked/golang/expansion/expand.go`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_OPERATOR = r"\$(?:\$|\(([^)]*)\))"


def expand_references(text: str, values: Mapping[str, str], *, longest: int | None = None) -> str:
    """`$(NAME)` becomes its value, or stays when there is none; `$$` becomes `$`.

    Raises:
        ValueError: the result would have more than `longest` characters; it isn't made.
    """
    length = len(text)

    def replace(match: re.Match[str]) -> str:
        nonlocal length
        name = match[1]
        value = "$" if name is None else values.get(name, match[0])
        length += len(value) - len(match[0])
        # What stays behind the match counts too: only later references can make it shorter again.
        if longest is not None and length > longest + len(text) - match.end():
            raise ValueError(f"longer than {longest} characters")
        return value

    # Behind the last bracket there are no names, and the search for one from every `$(` would be quadratic.
    end = text.rfind(")") + 1
    expanded = re.sub(_OPERATOR, replace, text[:end]) + text[end:].replace("$$", "$")
    if longest is not None and len(expanded) > longest:
        raise ValueError(f"longer than {longest} characters")
    return expanded


def escape_references(text: str) -> str:
    """Text that `expand_references` turns back into `text`, whatever the values."""
    return re.sub(r"\$(?=[$(])", "$$", text)
