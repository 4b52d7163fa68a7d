"""The tests themselves: each can fail, says what its fixtures are, and waits by `tests.waiting`."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import gpuyard
from tests.waiting import until, until_async

TESTS, SOURCE = Path(__file__).parents[1], Path(gpuyard.__file__).parent
FILES = sorted(file.relative_to(TESTS).as_posix() for file in TESTS.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef
#: Where the one loop is, and the processes of a test's own, which can't import it.
POLLING = {
    "waiting.py",
    "cluster/harness/cluster.py",
    "cluster/harness/machine.py",
    "cluster/harness/namespaces.py",
}


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse((TESTS / file).read_text())


@cache
def _functions(file: str) -> tuple[Function, ...]:
    return tuple(node for node in ast.walk(_tree(file)) if isinstance(node, Function))


def _is_test(function: Function) -> bool:
    return function.name.startswith("test_")


def _tests() -> list[tuple[str, Function]]:
    return [(file, f) for file in FILES for f in _functions(file) if _is_test(f)]


def _is_fixture(function: Function) -> bool:
    return any("fixture" in ast.unparse(decorator) for decorator in function.decorator_list)


@cache
def _used(function: Function) -> set[str]:
    """The names of whatever a function calls or hands on, without what comes before their last dot."""
    nodes = list(ast.walk(function))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def _asserting() -> set[str]:
    """The names of functions that can fail: by an assertion of their own or of a function that they use.

    Names that gpuyard's own functions or Python's types have as well say nothing.
    """
    used = {function: _used(function) for file in FILES for function in _functions(file)}
    ambiguous = {f.name for file in SOURCE.rglob("*.py") for f in _functions(str(file))}
    ambiguous |= {name for known in (str, list, dict, set, Path) for name in dir(known)}
    found = {"raises", "fail", "warns"}
    found |= {f.name for f in used if any(isinstance(node, ast.Assert) for node in ast.walk(f))}
    while True:
        failing = found - ambiguous
        more = {f.name for f, names in used.items() if not names.isdisjoint(failing)} - found
        if not more:
            return found
        found |= more


def test_every_test_can_fail() -> None:
    asserting = _asserting()
    assert [f"{file}: {f.name}" for file, f in _tests() if f.name not in asserting] == []


def _says_what_holds(function: Function) -> bool:
    """Whether its own body has an assertion, or a name that promises one."""
    promises = re.compile(r"_?(expect|wait)_|_?until|(raises|fail|warns)$")
    return any(isinstance(node, ast.Assert) for node in ast.walk(function)) or any(
        map(promises.match, _used(function))
    )


def test_every_test_says_itself_what_holds() -> None:
    assert [f"{file}: {f.name}" for file, f in _tests() if not _says_what_holds(f)] == []


PATIENCE_S = 60


def test_no_wait_fails_because_the_machine_is_slow() -> None:
    hasty = [
        f"{file}:{call.lineno}"
        for file in FILES
        if file != "unit/test_tests.py"
        for call in ast.walk(_tree(file))
        if isinstance(call, ast.Call)
        for limit in _limits(call)
        if isinstance(limit, ast.Constant) and isinstance(limit.value, int | float)
        if limit.value < PATIENCE_S
    ]
    assert hasty == []


def _limits(call: ast.Call) -> list[ast.expr]:
    """After how long a call gives up, and its test with it."""
    name = ast.unparse(call.func).rpartition(".")[2]
    place = {"timeout": 0, "wait_for": 1}.get(name)
    found = call.args[place : place + 1] if place is not None else []
    if name in {"until", "until_async", "wait_for_gpus", "run", "communicate", "result"}:
        found += [keyword.value for keyword in call.keywords if keyword.arg in ("timeout", "timeout_s")]
    return found


def test_every_fixture_is_named_by_its_class() -> None:
    """What isn't a value of the test's parameters comes from a fixture, whose class is known."""
    untyped = [
        f"{file}: {function.name}: {argument.arg}"
        for file in FILES
        for function in _functions(file)
        if _is_test(function) or _is_fixture(function)
        for argument in function.args.args
        if argument.annotation is not None and ast.unparse(argument.annotation) == "Any"
        if not any("given" in ast.unparse(decorator) for decorator in function.decorator_list)
        if not any(argument.arg in ast.unparse(decorator) for decorator in function.decorator_list)
    ]
    assert untyped == []


def test_nobody_else_looks_again_and_again() -> None:
    polling = [
        f"{file}:{loop.lineno}"
        for file in FILES
        if file not in POLLING
        for loop in ast.walk(_tree(file))
        if isinstance(loop, ast.While)
        for call in ast.walk(loop)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("time.sleep", "asyncio.sleep")
        if ast.unparse(call.args[0]) != "0"  # a turn of the loop, which waits for nobody
    ]
    assert polling == []


def test_until_gives_what_it_saw() -> None:
    seen = iter([0, 1, 2, 3])
    assert until(lambda: next(seen), "two", lambda number: number == 2) == 2


def test_until_says_what_it_waited_for_and_what_it_saw_last() -> None:
    with pytest.raises(AssertionError, match="the end: not so within 0 s; seen last: 'nearly'"):
        until(lambda: "nearly", "the end", lambda text: text == "end", timeout_s=0)


def test_until_takes_what_means_not_yet() -> None:
    answers: Iterator[KeyError | str] = iter([KeyError("a"), KeyError("a"), "here"])

    def look() -> str:
        answer = next(answers)
        if isinstance(answer, KeyError):
            raise answer
        return answer

    assert until(look, "an answer", not_yet=KeyError) == "here"
    with pytest.raises(StopIteration):
        until(look, "an answer", not_yet=KeyError)
    with pytest.raises(AssertionError, match=r"seen last: OSError\('shut'\)"):
        until(_shut, "it opens", not_yet=OSError, timeout_s=0)


def _shut() -> bool:
    raise OSError("shut")


async def test_until_async_looks_with_functions_and_coroutines() -> None:
    numbers = iter(range(9))

    async def look() -> int:
        return next(numbers)

    assert await until_async(look, "three", lambda number: number == 3) == 3
    assert await until_async(lambda: next(numbers), "six", lambda number: number == 6) == 6


async def test_until_async_ends_a_look_that_never_answers() -> None:
    with pytest.raises(AssertionError, match="an answer: not so within 0 s; seen last: 'nothing'"):
        await until_async(asyncio.Event().wait, "an answer", timeout_s=0.01)
