"""What commands advise, said to a caller from Python."""

from __future__ import annotations

import ast
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpuyard
from gpuyard import errors
from gpuyard.advice import advice, run_call, worded, wording
from gpuyard.explain.output.diagnosis import diagnose
from gpuyard.python_api.asynchronous import AsyncRun, AsyncYard
from gpuyard.python_api.wording import PythonWording, name_arguments, speaks_python
from gpuyard.runs.submitting.host import host_context
from gpuyard.runs.submitting.program import check_program
from gpuyard.workloads.spec.run_spec import RunSpec

SOURCE = Path(gpuyard.__file__).parent
PYTHON = PythonWording()


@pytest.mark.parametrize(
    ("said", "in_words_of_python"),
    [
        ("name an interpreter with --python", "name an interpreter with python="),
        ("make a Secret for it and run it with --image-pull-secret NAME", "run it with image_pull_secrets="),
        ("--wait submits it all the same", "wait=True submits it all the same"),
        ("choose another --name, or add --replace", "choose another name=, or add replace=True"),
        ("--env PYTHONPATH passes it on", 'env={"PYTHONPATH": None} passes it on'),
        ("or --context yard is this machine's", "or context=\"yard\" is this machine's"),
        ("a shell: `gpuyard run --shell bash -- '…'`; a", "a shell: `run('…', shell='bash')`; a"),
        ("--env A_B=1 gives numbers", 'env={"A_B": "1"} gives numbers'),
        ("with more memory (--gpus MODEL:N);", "with more memory (gpus=);"),
        ("or run it here with --context yard", 'or run it here with context="yard"'),
        ("name another with --namespace", "name another with namespace="),
        ("raise --memory above 32Mi", "raise memory= above 32Mi"),
        ("with --toleration gpu", "with tolerations="),
        ("folder: --env PYTHONPATH=. adds", 'folder: env={"PYTHONPATH": "."} adds'),
        ("`gpuyard ps --namespace a` lists runs", "`gpuyard ps --namespace a` lists runs"),
        ("kubectl create secret generic a --image=b", "kubectl create secret generic a --image=b"),
        ("leave --master_port out", "leave --master_port out"),
        ("a spec file goes after -f", "a spec file goes into file="),
        ("what `gpuyard run` renders passes", "what `gpuyard run` renders passes"),
    ],
)  # fmt: skip
def test_an_option_is_the_argument_of_python(said: str, in_words_of_python: str) -> None:
    assert in_words_of_python in PYTHON.options(said)
    with worded(PYTHON):
        assert in_words_of_python in advice(said)
    assert advice(said) == said


def test_a_key_of_the_call_that_is_none() -> None:
    keys = [
        errors.Problem("gpu=", "unknown key; did you mean 'resources.gpus'?"),
        errors.Problem("cmd=", "unknown key; did you mean 'run'?"),
        errors.Problem("gpu", "unknown key; did you mean 'b'?", 1),
    ]
    said = name_arguments(errors.SpecError("a.yaml", keys))
    assert [problem.message for problem in said.problems] == [
        "no such argument; did you mean gpus=?",
        "no such argument; did you mean command=?",
        "unknown key; did you mean 'b'?",
    ]


def test_a_call_for_a_command() -> None:
    with worded(PYTHON):
        assert run_call(file="gpuyard.yaml") == "run(file='gpuyard.yaml')"
        assert run_call(("python", "t.py"), env="LR=1 2") == "run(['python', 't.py'], env={'LR': '1 2'})"
        assert run_call(("a; b",), by_shell="bash", more=True) == "run('a; b', shell='bash')"
        assert run_call(("./tool",)) == "run(['./tool'])"


#: What a user or a server may say that looks like advice of ours.
HOSTILE = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
    st.lists(
        st.sampled_from(
            ["-f", "--wait", "--memory", "--env A=1", "--name", "gpuyard run -f x", "`", "{", "'", " ", "/"]
        ),
        min_size=1,
        max_size=5,
    ).map(" ".join),
)


@given(HOSTILE, HOSTILE)
def test_what_a_user_said_stays_as_it_is(workdir: str, script: str) -> None:
    base = Path("/nowhere --wait")
    with worded(PYTHON), pytest.raises(errors.UsageError) as caught:
        host_context(RunSpec(run=("true",), workdir=f"a/{workdir}"), base, {"PATH": "/usr/bin:/bin"})
    assert str(base / f"a/{workdir}") in caught.value.message
    with worded(PYTHON), pytest.raises(errors.UsageError) as caught:
        host_context(RunSpec(run=("python3", f"s{script}.py")), Path("/"), {"PATH": "/usr/bin:/bin"})
    assert f"s{script}.py" in caught.value.message


@given(HOSTILE, st.lists(HOSTILE, min_size=1, max_size=3))
def test_a_call_has_the_words_that_were_given(value: str, words: list[str]) -> None:
    name = f"A={value}"
    with worded(PYTHON), pytest.raises(errors.UsageError) as caught:
        check_program([name, *words], Path("/"), "/nowhere")
    assert name in caught.value.message
    if "/" in name:
        # A path: it is looked for as a program.
        return
    call = ast.parse(caught.value.remedy.removeprefix("write: "), mode="eval").body
    assert isinstance(call, ast.Call)
    assert ast.literal_eval(call.args[0]) == words
    assert ast.literal_eval(call.keywords[0].value) == {"A": value}


@given(HOSTILE)
def test_what_a_program_printed_stays_as_it_is(line: str) -> None:
    with worded(PYTHON):
        (found,) = diagnose([f"sh: 1: source: not found {line}"])
    assert found.line == f"sh: 1: source: not found {line}".strip()
    assert found.remedy == "run it with bash: `run('…', shell='bash')`; a script starts with #!/bin/bash"


SERVER_SAID = "admission webhook says: rm -f x --wait"


@speaks_python
class Speaker:
    async def fail(self) -> None:
        error = errors.UsageError(advice("--gpus is wrong"), remedy=advice("leave --gpus out"))
        error.add_note("somebody's note: --wait")
        raise error

    async def lines(self) -> AsyncGenerator[str, None]:
        yield advice("--name")
        yield advice("--name")
        error = errors.Forbidden(SERVER_SAID)
        error.remedy = advice("name another with --namespace")
        raise error


async def test_advice_is_said_in_python_and_nothing_else_is() -> None:
    with pytest.raises(errors.UsageError) as caught:
        await Speaker().fail()
    error = caught.value
    assert (str(error), error.message, error.remedy) == (
        "gpus= is wrong",
        "gpus= is wrong",
        "leave gpus= out",
    )
    assert error.__notes__ == ["leave gpus= out", "somebody's note: --wait"]
    assert type(wording()) is not PythonWording


async def test_so_it_is_by_a_generator_and_in_a_remedy_that_came_later() -> None:
    with pytest.raises(errors.Forbidden) as caught:
        async for line in Speaker().lines():
            # What its caller says meanwhile is its own.
            assert (line, advice("--name")) == ("name=", "--name")
    assert caught.value.message == str(caught.value) == SERVER_SAID
    assert caught.value.__notes__ == [caught.value.remedy] == ["name another with namespace="]


@pytest.mark.parametrize("kind", [AsyncYard, AsyncRun])
def test_every_call_of_the_api_speaks_python(kind: type) -> None:
    assert all(hasattr(value, "__wrapped__") for name, value in vars(kind).items() if _is_call(name, value))


def _is_call(name: str, value: object) -> bool:
    return callable(value) and (not name.startswith("_") or name == "__aenter__")


#: Calls that take a text of ours and give it to `advice` when it is said.
_ADVISED = {"advice", "known", "meaning", "_missing"}
#: Tables and texts of ours, which are given to `advice` by name.
_NAMED = {
    "PASS_PYTHONPATH", "TOO_OLD_REMEDY", "_AGAIN", "_CODES", "_FLAGS", "_MOUNT", "_REMEDIES", "_WHOLE_LINE",
    "_SEND_SCRIPT", "_TAKE_SCRIPT",
}  # fmt: skip
#: Words for programs: arguments that we or Kubernetes' tools are given, not advice.
_FOR_PROGRAMS = {"--context", "--namespace", "--namespace=", "--image", "-f", "--name"}
#: Options of `gpuyard install`, which is for who types commands alone.
_OF_INSTALL = {"agent_nodes.py", "installed.py"}


def unadvised(module: Path) -> Iterator[str]:
    """Texts of a module with an option that Python calls otherwise, and that are said as they are."""
    tree = ast.parse(module.read_text())
    excused: set[int] = set()
    for node in ast.walk(tree):
        excuse = (
            (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _ADVISED)
            or (
                isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and node.targets[0].id in _NAMED
            )
            or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        )
        if excuse:
            excused |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in excused:
            text = node.value
            if text not in _FOR_PROGRAMS and PYTHON.options(text) != text:
                yield text


@pytest.mark.parametrize(
    "package", ["client", "compatibility", "explain", "images", "kube", "runs", "tenancy", "workloads"]
)
def test_an_option_is_named_in_advice_only(package: str) -> None:
    found = {
        f"{module.name}: {text}"
        for module in sorted((SOURCE / package).rglob("*.py"))
        if module.name not in _OF_INSTALL
        for text in unadvised(module)
    }
    assert found == set()


def test_nothing_is_put_into_a_text_before_it_is_advised() -> None:
    calls = [
        (module.name, argument)
        for module in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "advice"
        for argument in ast.walk(node.args[0])
    ]
    assert calls
    assert [name for name, argument in calls if isinstance(argument, ast.FormattedValue)] == []
