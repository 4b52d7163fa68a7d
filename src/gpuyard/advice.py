"""What advice calls an option: `--memory` for who types commands, `memory=` for who calls from Python.

The words are chosen where the advice is made, over a text of ours alone: what a user or a server said is
never searched for options.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class RunCall:
    """What is to be run.

    Attributes:
        words: of the command; one word is a whole line where a shell is named.
        file: a spec file.
        env: a variable, `NAME=VALUE`.
        by_shell: the shell that reads the line.
        more: there may be other options, which stay.
    """

    words: Sequence[str] = ()
    file: str = ""
    env: str = ""
    by_shell: str = ""
    more: bool = False


class Wording:
    """For commands; a call from Python has its own (`python_api.wording`)."""

    def options(self, text: str) -> str:
        """The text with its options as the reader calls them."""
        return text

    def run(self, call: RunCall) -> str:
        """How the reader makes this call."""
        given = {"-f": call.file, "--env": call.env, "--shell": call.by_shell}
        options = [word for option, value in given.items() if value for word in (option, value)]
        end = ["--"] if len(call.words) > 1 or call.env or call.by_shell else []
        return f"gpuyard run {'… ' if call.more else ''}{shlex.join([*options, *end, *call.words])}"


_WORDING: ContextVar[Wording] = ContextVar("wording", default=Wording())  # noqa: B039 - it holds nothing


def advice(text: str) -> str:
    """A text of ours, nothing put in, that names options as `--name` and `-f`: said for whoever asked."""
    return wording().options(text)


def run_call(
    words: Sequence[str] = (), *, file: str = "", env: str = "", by_shell: str = "", more: bool = False
) -> str:
    """The command, or the call from Python, that runs this (see `RunCall`)."""
    return wording().run(RunCall(words, file, env, by_shell, more))


def wording() -> Wording:
    """The words of whoever asked."""
    return _WORDING.get()


@contextmanager
def worded(words: Wording) -> Iterator[None]:
    """What is advised meanwhile is said in these words."""
    before = wording()
    _WORDING.set(words)
    try:
        yield
    finally:
        # No reset by token: a coroutine that nobody awaits to its end is closed in another context.
        _WORDING.set(before)
