"""Files that a user names for a run: its spec, and its variables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpuyard import errors
from gpuyard.runs.notices import Notice, NoticeKind
from gpuyard.workloads.spec.overrides import Flag

#: More is no spec, but /dev/zero or a checkpoint.
_MAX_BYTES = 4 << 20
#: `$NAME` as shells' variables are mostly called: a password may have a dollar before small letters.
_VARIABLE = r"\$(?:[A-Z_][A-Z0-9_]+\b|\{[A-Za-z_][A-Za-z0-9_]*\})"


def read_spec_file(file: Path, what: str = "a spec file") -> bytes:
    """The whole content; a pipe such as the shell's `<(…)` is read to its end.

    Args:
        file: its path.
        what: what it should be, for the remedy.

    Raises:
        UsageError: it can't be read, is too large to be one, or is a Dockerfile.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise errors.UsageError(
            f"can't read {file}: {error.strerror}", remedy=f"name {what} that is there"
        ) from error
    if len(content) > _MAX_BYTES:
        raise errors.UsageError(f"{file} has more than {_MAX_BYTES >> 20} MiB", remedy=f"name {what}")
    if _is_dockerfile(content):
        raise errors.UsageError(
            f"{file} is a Dockerfile, and a spec is needed",
            remedy="write one by the page docs/how-to/from-a-dockerfile.md, which goes line by line",
        )
    return content


def _is_dockerfile(content: bytes) -> bool:
    """Whether its first line, comments aside, is one that a Dockerfile may begin with and YAML doesn't."""
    lines = (line.split() for line in content.splitlines())
    first = next((words for words in lines if words and not words[0].startswith(b"#")), [])
    return len(first) > 1 and first[0].upper() in (b"FROM", b"ARG")


def unexpanded(flags: Sequence[Flag]) -> Iterator[Notice]:
    """Tells of variables that somebody may expect to be replaced by their values, as a shell does it.

    Args:
        flags: of which those that set an entry of `env` are looked at; their values may be secret.
    """
    for flag in flags:
        if flag.path[0] != "env" or not isinstance(flag.value, str):
            continue
        key, _, value = flag.value.partition("=") if len(flag.path) == 1 else (flag.path[1], "", flag.value)
        if re.search(_VARIABLE, value):
            text = f"{flag.name}: the value of {key} has a $NAME in it, which nothing expands"
            yield Notice(text, NoticeKind.WARNING)
