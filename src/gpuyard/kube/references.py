"""`$(NAME)` in a container's command, args and env values: expanding it, and escaping text against it.

Source: k8s.io/kubernetes `third_party/forked/golang/expansion/expand.go`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_OPERATOR = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand_references(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` becomes its value, or stays when there is none; `$$` becomes `$`."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        return "$" if name is None else values.get(name, match[0])

    return _OPERATOR.sub(replace, text)


def escape_references(text: str) -> str:
    """Text that `expand_references` turns back into `text`, whatever the values."""
    return re.sub(r"\$(?=[$(])", "$$", text)
