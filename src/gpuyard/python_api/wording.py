"""What commands advise, said in Python: `--name` is `name=` there, and `gpuyard run a.py` is `run(['a.py'])`.

Errors are worded once, for commands and spec files; who calls from Python has neither before their eyes.
"""

from __future__ import annotations

import functools
import inspect
import re
import shlex
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar, cast

from gpuyard import errors
from gpuyard.workloads.spec.model import SPEC

Kind = TypeVar("Kind", bound=type)

_SWITCHES = ("replace", "snapshot", "wait")
#: Options that are called otherwise than the argument.
_RENAMED = {"image-pull-secret": "image_pull_secrets", "toleration": "tolerations", "tail": "tail_lines"}
_ARGUMENTS = {name.replace("_", "-"): name for name in SPEC.keys} | {
    name: name for name in ("gpus", "cpus", "memory", "shm", "context", "namespace", *_SWITCHES)
} | _RENAMED  # fmt: skip

_WORDS = re.compile(
    r"`gpuyard run (?P<quoted>[^`]+)`|(?<!`)gpuyard run (?P<bare>[^`]+)$"
    r"|`[^`]*`|\b(?:gpuyard|kubectl) [a-z].*"  # other commands stay as they are
    r"|(?P<unknown>\w+=): unknown key; did you mean '(?:resources\.)?(?P<meant>\w+)'"
    r"|--env (?P<variable>[A-Z_]+)(?:=(?P<value>\w+))?|--context (?P<context>yard)"
    r"|(?<![\w-])--(?P<option>[a-z-]+)(?: (?:NAME|PATH|MODEL:N|gpu)\b)?|(?P<file>(?:after )?(?<![\w-])-f\b)"
)


def in_python(text: str) -> str:
    """The text with arguments of `run` and `connect` for options, and calls for `gpuyard run`."""
    return _WORDS.sub(_said, text)


def _said(match: re.Match[str]) -> str:
    if command := match["quoted"] or match["bare"]:
        call = _call(command)
        return match[0] if call is None else f"`{call}`" if match["quoted"] else call
    if match["unknown"]:
        meant = "command" if match["meant"] == "run" else match["meant"]
        return f"{match['unknown']}: no such argument; did you mean {meant}="
    if match["variable"]:
        value = f'"{match["value"]}"' if match["value"] else "None"
        return f'env={{"{match["variable"]}": {value}}}'
    if match["context"]:
        return 'context="yard"'
    if match["file"]:
        return "into file="
    if argument := _ARGUMENTS.get(match["option"] or ""):
        return f"{argument}=" + ("True" if argument in _SWITCHES else "")
    return match[0]


def _call(command: str) -> str | None:
    """`gpuyard run` with these arguments as a call; None where an option has no argument here."""
    try:
        words = shlex.split(command.removeprefix("… "))
    except ValueError:
        return None
    given = []
    while words and words[0].startswith("-") and words[0] != "--":
        option, value = words.pop(0), words.pop(0) if words else ""
        if option == "-f":
            given.append(f"file={value!r}")
        elif option == "--env":
            name, _, setting = value.partition("=")
            given.append(f"env={ {name: setting}!r}")
        elif option == "--shell":
            given.append(f"shell={value!r}")
        else:
            return None
    if words[:1] == ["--"]:
        words.pop(0)
    # A shell reads a line, which is text.
    run: str | list[str] = words[0] if len(words) == 1 and "--shell" in command else words
    return f"run({', '.join([*([repr(run)] if words else []), *given])})"


@contextmanager
def _saying() -> Iterator[None]:
    try:
        yield
    except errors.GpuyardError as error:
        error.message, error.remedy = in_python(error.message), in_python(error.remedy)
        error.args = (error.message,)
        # What Python prints below the traceback; a remedy may have come after the error was made.
        error.__notes__ = [error.remedy] if error.remedy else []
        raise


def speaks_python(kind: Kind) -> Kind:
    """Decorates a class: what its public calls raise is said in Python."""
    for name, value in list(vars(kind).items()):
        if inspect.isfunction(value) and (not name.startswith("_") or name == "__aenter__"):
            setattr(kind, name, _speaking(value))
    return kind


def _speaking(function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def iterate(*args: Any, **keys: Any) -> AsyncGenerator[Any, None]:
            with _saying():
                async with aclosing(function(*args, **keys)) as items:
                    async for item in items:
                        yield item

        return iterate

    @functools.wraps(function)
    async def call(*args: Any, **keys: Any) -> Any:
        with _saying():
            return await function(*args, **keys)

    return cast("Callable[..., Any]", call)
