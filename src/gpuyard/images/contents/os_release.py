"""What a system says of itself (os-release(5))."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LINE = r"(?m)^([A-Z_]+)=(.*)$"


def os_release(files: Mapping[str, bytes]) -> dict[str, str]:
    """Names and values of a system, as far as it says them.

    Args:
        files: of the system, by path.
    """
    content = files.get("etc/os-release") or files.get("usr/lib/os-release") or b""
    return {
        name: value.strip().strip("\"'")
        for name, value in re.findall(_LINE, content.decode("utf-8", "replace"))
    }
