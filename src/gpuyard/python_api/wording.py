"""What commands advise, said in Python: `--name` is `name=` there, and `gpuyard run a.py` is `run(['a.py'])`.

Errors are worded for commands and spec files; who calls from Python has neither before their eyes. So
`gpuyard.advice` asks for these words where an error is made.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar, cast

from gpuyard import errors
from gpuyard.advice import RunCall, Wording, worded
from gpuyard.workloads.spec.model import SPEC

Kind = TypeVar("Kind", bound=type)

_SWITCHES = ("replace", "snapshot", "wait")
#: Options that are called otherwise than the argument.
_RENAMED = {"image-pull-secret": "image_pull_secrets", "toleration": "tolerations", "tail": "tail_lines"}
_ARGUMENTS = {name.replace("_", "-"): name for name in SPEC.keys} | {
    name: name for name in ("gpus", "cpus", "memory", "shm", "context", "namespace", *_SWITCHES)
} | _RENAMED  # fmt: skip

_OPTION = re.compile(
    r"`gpuyard run --shell bash -- (?P<line>'…')`"
    r"|`[^`]*`|\b(?:gpuyard|kubectl) [a-z].*"  # other commands stay as they are
    r"|--env (?P<variable>[A-Z_]+)(?:=(?P<value>[\w./]+))?|--context (?P<context>yard)"
    r"|(?<![\w-])--(?P<option>[a-z-]+)(?: (?:NAME|MODEL:N)\b)?|(?P<file>(?:after )?(?<![\w-])-f\b)"
)


class PythonWording(Wording):
    """Arguments of `run` and `connect` for options, and calls for `gpuyard run`."""

    def options(self, text: str) -> str:
        """`memory=` for `--memory`."""
        return _OPTION.sub(_argument, text)

    def run(self, call: RunCall) -> str:
        """A call of `Yard.run`."""
        name, _, value = call.env.partition("=")
        given = [repr(call.words[0] if call.by_shell else list(call.words))] if call.words else []
        given += [f"file={call.file!r}"] if call.file else []
        given += [f"env={ {name: value}!r}"] if call.env else []
        given += [f"shell={call.by_shell!r}"] if call.by_shell else []
        return f"run({', '.join(given)})"


def _argument(match: re.Match[str]) -> str:
    if match["line"]:
        return f"`run({match['line']}, shell='bash')`"
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


def name_arguments(error: errors.SpecError) -> errors.SpecError:
    """The same with arguments for keys where a key of the call was meant; those of a file stay."""
    return errors.SpecError(error.source, [_as_argument(problem) for problem in error.problems])


def _as_argument(problem: errors.Problem) -> errors.Problem:
    match = re.fullmatch(r"unknown key; did you mean '(?:resources\.)?(\w+)'\?", problem.message)
    if match is None or not problem.path.endswith("="):
        return problem
    meant = "command" if match[1] == "run" else match[1]
    return dataclasses.replace(problem, message=f"no such argument; did you mean {meant}=?")


@contextmanager
def _worded() -> Iterator[None]:
    with worded(PythonWording()):
        try:
            yield
        except errors.GpuyardError as error:
            # What Python prints below the traceback; a remedy may have come after the error was made.
            if error.remedy and error.remedy not in getattr(error, "__notes__", ()):
                error.add_note(error.remedy)
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
            async with aclosing(function(*args, **keys)) as items:
                while True:
                    # Only for a step: what its caller does meanwhile is worded as before.
                    with _worded():
                        try:
                            item = await anext(items)
                        except StopAsyncIteration:
                            return
                    yield item

        return iterate

    @functools.wraps(function)
    async def call(*args: Any, **keys: Any) -> Any:
        with _worded():
            return await function(*args, **keys)

    return cast("Callable[..., Any]", call)
