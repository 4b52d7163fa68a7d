"""What commands advise, said to a caller from Python."""

from __future__ import annotations

import ast
import re
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

import gpuyard
from gpuyard import errors
from gpuyard.python_api.asynchronous import AsyncRun, AsyncYard
from gpuyard.python_api.wording import in_python, speaks_python

SOURCE = Path(gpuyard.__file__).parent


@pytest.mark.parametrize(
    ("said", "in_words_of_python"),
    [
        ("name an interpreter with --python", "name an interpreter with python="),
        ("make a Secret for it and run it with --image-pull-secret NAME", "run it with image_pull_secrets="),
        ("--wait submits it all the same", "wait=True submits it all the same"),
        ("choose another --name, or add --replace", "choose another name=, or add replace=True"),
        ("--env PYTHONPATH passes it on", 'env={"PYTHONPATH": None} passes it on'),
        ("--env A_B=1 gives numbers", 'env={"A_B": "1"} gives numbers'),
        ("with more memory (--gpus MODEL:N);", "with more memory (gpus=);"),
        ("or run it here with --context yard", 'or run it here with context="yard"'),
        ("name another with --namespace", "name another with namespace="),
        ("raise --memory above 32Mi", "raise memory= above 32Mi"),
        ("with --toleration gpu", "with tolerations="),
        ("`gpuyard ps --namespace a` lists runs", "`gpuyard ps --namespace a` lists runs"),
        ("kubectl create secret generic a --image=b", "kubectl create secret generic a --image=b"),
        ("leave --master_port out", "leave --master_port out"),
        ("a spec file goes after -f", "a spec file goes into file="),
        ("write: gpuyard run -f gpuyard.yaml", "write: run(file='gpuyard.yaml')"),
        ("write: gpuyard run --env 'LR=1 2' -- python t.py", "run(['python', 't.py'], env={'LR': '1 2'})"),
        ("run it: gpuyard run … -- python 'a b.py'", "run it: run(['python', 'a b.py'])"),
        ("gpu=: unknown key; did you mean 'resources.gpus'?", "gpu=: no such argument; did you mean gpus=?"),
        ("cmd=: unknown key; did you mean 'run'?", "cmd=: no such argument; did you mean command=?"),
        ("a.yaml:1: gpu: unknown key; did you mean 'b'?", "a.yaml:1: gpu: unknown key; did you mean 'b'?"),
        ("read it: gpuyard run … --shell bash -- 'a | b'", "read it: run('a | b', shell='bash')"),
        ("with bash: `gpuyard run --shell bash -- '…'`; a", "with bash: `run('…', shell='bash')`; a"),
        ("write: gpuyard run ./tool", "write: run(['./tool'])"),
        ("what `gpuyard run` renders passes", "what `gpuyard run` renders passes"),
    ],
)  # fmt: skip
def test_an_option_is_the_argument_of_python(said: str, in_words_of_python: str) -> None:
    assert in_words_of_python in in_python(said)


@speaks_python
class Speaker:
    async def fail(self) -> None:
        raise errors.UsageError("--gpus is wrong", remedy="leave --gpus out")

    async def lines(self) -> AsyncGenerator[str, None]:
        yield "one"
        error = errors.Forbidden("no")
        error.remedy = "name another with --namespace"
        raise error


async def test_an_error_is_said_in_python_wherever_it_is_read() -> None:
    with pytest.raises(errors.UsageError) as caught:
        await Speaker().fail()
    error = caught.value
    assert (str(error), error.message, error.remedy) == (
        "gpus= is wrong",
        "gpus= is wrong",
        "leave gpus= out",
    )
    assert error.__notes__ == ["leave gpus= out"]


async def test_so_is_one_of_a_generator_and_one_that_got_its_remedy_later() -> None:
    with pytest.raises(errors.Forbidden) as caught:
        [line async for line in Speaker().lines()]
    assert caught.value.__notes__ == [caught.value.remedy] == ["name another with namespace="]


@pytest.mark.parametrize("kind", [AsyncYard, AsyncRun])
def test_every_call_of_the_api_speaks_python(kind: type) -> None:
    assert all(hasattr(value, "__wrapped__") for name, value in vars(kind).items() if _is_call(name, value))


def _is_call(name: str, value: object) -> bool:
    return callable(value) and (not name.startswith("_") or name == "__aenter__")


def texts(module: Path) -> Iterator[str]:
    """The strings of a module that are no documentation; of f-strings with an X for each value."""
    tree = ast.parse(module.read_text())
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    formatted = [node.values for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    for parts in formatted:
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in parts)
    known = documented | {id(part) for parts in formatted for part in parts}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in known:
            yield node.value


_COMMAND = r"`[^`]*`|\b(?:gpuyard|kubectl) [a-z].*"
#: Words for programs: arguments that we or Kubernetes' tools are given, not advice.
_FOR_PROGRAMS = {
    "--pythonpath", "--context yard", "--show-toplevel", "--cached", "--others", "--exclude-standard",
    "--split-string", "--check-hash-based-pycs", "--version", "--help", "--force", "--api-socket",
    "--grace", "--signal", "--to", "--platform", "--from-literal", "--from-file", "--docker-server",
    "--master", "--overwrite", "--kubeconfig",
}  # fmt: skip


@pytest.mark.parametrize("package", ["runs", "workloads", "explain"])
def test_no_advice_keeps_an_option_that_python_hasnt(package: str) -> None:
    left = {
        option
        for module in sorted((SOURCE / package).rglob("*.py"))
        for text in texts(module)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", re.sub(_COMMAND, "", in_python(text)))
    }
    assert left <= _FOR_PROGRAMS
