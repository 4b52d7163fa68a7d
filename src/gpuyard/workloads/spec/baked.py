"""What may be written into an image's config: variables and labels, of a spec or the command line (pure)."""

from __future__ import annotations

import re

#: What a built image sets, since its environment and its user depend on it.
_OWN = frozenset({"HOME", "USER", "LOGNAME", "VIRTUAL_ENV"})
_OWN_LABELS = "io.gpuyard."
_REFERENCE = r"\$\{([^}]*)\}?"


def check_variable(name: str, value: str) -> None:
    """Raises ValueError for a variable that can't be baked into an image; the value may name itself, which is
    then the base's own: `/opt/tool/bin:${PATH}`."""
    if name in _OWN:
        raise ValueError("is the image's own; its user is gpuyard, with a home and an environment of its own")
    if name == "PATH" and "${PATH}" not in value:
        raise ValueError("would hide the base's programs; write for example /opt/tool/bin:${PATH}")
    if "\0" in value:
        raise ValueError("holds a zero byte, which no environment can")
    for match in re.finditer(_REFERENCE, value):
        if match[0] != f"${{{name}}}":
            raise ValueError(
                f"{match[0]!r} isn't filled in, since the image is the same for everybody; write the value"
            )


def with_own(name: str, value: str, base: str) -> str:
    """The value with the base's in the place of a reference to itself."""
    return value.replace(f"${{{name}}}", base)


def check_label(name: str) -> None:
    """Raises ValueError for what can't be the name of an image's label."""
    if not name or not name.isprintable() or re.search(r"[\s=]", name):
        raise ValueError("can't be the name of a label; write for example org.opencontainers.image.source")
    if name.startswith(_OWN_LABELS):
        raise ValueError(f"begins with {_OWN_LABELS}, which gpuyard keeps for itself")
