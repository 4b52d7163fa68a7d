"""Files of environment variables, as `docker run --env-file` reads them (pure)."""

from __future__ import annotations

from gpuyard.errors import Problem, SpecError
from gpuyard.workloads.spec.overrides import Flag, FlagForm

_EXPORT = "export "


def parse_env_file(content: bytes, source: str) -> list[Flag]:
    """The file's variables as flags, each named after its line.

    A line is `KEY=VALUE`, or `KEY` for the shell's value; `export ` before it, and a pair of quotes around
    the whole value, are left out. Empty lines and lines that start with `#` say nothing. Nothing is expanded.

    Args:
        content: of the file.
        source: its name, for messages.

    Raises:
        SpecError: it isn't text in UTF-8.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = content.count(b"\n", 0, error.start) + 1
        raise SpecError(source, [Problem("encoding", "isn't text in UTF-8", place)]) from error
    flags = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip().removeprefix(_EXPORT).lstrip()
        if not stripped or stripped.startswith("#"):
            continue
        key, equals, value = stripped.partition("=")
        entry = f"{key.rstrip()}{equals}{_unquoted(value.strip())}"
        flags.append(Flag(f"{source}:{number}", ("env",), entry, FlagForm.ENTRY_OR_KEY))
    return flags


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]
    return value[1:-1] if quoted else value
