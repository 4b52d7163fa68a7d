"""The starters of entry points, as an installer writes them (entry points specification)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gpuyard import errors
from gpuyard.building.environment import PREFIX, Environment
from gpuyard.images.layers import Entry

_SCRIPT = """\
#!{python}
import sys
from {module} import {first}
if __name__ == "__main__":
    sys.argv[0] = sys.argv[0].removesuffix(".exe")
    sys.exit({call}())
"""
_OBJECT = re.compile(r"(?P<module>[\w.]+)\s*:\s*(?P<call>[\w.]+)\s*(?:\[.*\])?")
_NAME = re.compile(r"(?!\.+$)[\w.-]+")


def script_entries(
    entry_points: Mapping[str, Mapping[str, str]], environment: Environment, owner: str
) -> Iterator[Entry]:
    """A starter for each console and GUI entry point.

    Args:
        entry_points: group → name → object.
        environment: whose interpreter runs them.
        owner: what messages call the distribution.

    Raises:
        BuildError: one names no object or isn't a file's name.
    """
    for group in ("console_scripts", "gui_scripts"):
        for name, value in entry_points.get(group, {}).items():
            match = _OBJECT.fullmatch(value.strip())
            if not match or not _NAME.fullmatch(name):
                raise errors.BuildError(f"{owner} has an entry point that can't be: {name} = {value}")
            text = _SCRIPT.format(
                python=environment.interpreter,
                module=match["module"],
                first=match["call"].partition(".")[0],
                call=match["call"],
            )
            yield Entry.of_bytes(f"{PREFIX.strip('/')}/bin/{name}", text.encode(), mode=0o755)
