"""The house: what can be read in one go, and who prints. Where things live is held by import-linter."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import gpuyard

SOURCE, TESTS = Path(gpuyard.__file__).parent, Path(__file__).parent
MAX_MODULE_LINES, MAX_FUNCTION_LINES = 400, 60
#: A folder is read as a list: most have up to 12 modules. More is a folder with parts.
MAX_FOLDER_MODULES = 14
#: Lists of one kind, as long as what they list.
LISTS = {
    ".": "rooms, and the files that become the launcher's in an image",
    "cli/commands": "one command a file",
    "local/objects/kinds": "one kind of the API a file",
}
#: Without it no run in an image starts; what only some need is in launcher_gang.py and its like.
ONE_FILE = {"launcher.py": 500, "launcher_gang.py": 500}
#: Names that two classes have.
SHARED_CLASS_NAMES = {
    "Run": "the Python API's name for what `runs.run.Run` knows",
    "Yard": "the Python API's name for what is connected to; `local.daemon.yard.Yard` is the process",
}
#: Programs of their own, which say on their standard output or error what their caller reads there.
PROGRAMS = {"agent/command.py", "agent/exporter.py", "launcher.py"}
#: Tests of more than one module, which no single module's name fits.
ACROSS_MODULES = {
    "test_house.py": "the whole tree",
    "test_alert_rules.py": "the rules of deploy/prometheus",
    "test_dashboard.py": "the dashboard of deploy/grafana",
    "test_tests.py": "the tests themselves",
    "building/test_from_a_dockerfile.py": "the page docs/how-to/from-a-dockerfile.md",
    "autoscaling/test_recorded.py": "the whole decision against Kubernetes' own",
    "compatibility/test_properties.py": "what need, offer, judge and fleet hold together",
    "explain/steps/test_messages.py": "the words of every step",
    "explain/steps/test_recorded.py": "every step over the same recordings",
    "python_api/test_public_names.py": "what `import gpuyard` gives",
    "local/objects/kinds/test_small_kinds.py": "one table over the kinds that have a few rules each",
}
MODULES = sorted(
    file.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("*.py") if "_proto" not in file.parts
)


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("module", MODULES)
def test_it_can_be_read_in_one_go(module: str) -> None:
    text = (SOURCE / module).read_text()
    assert text.count("\n") <= ONE_FILE.get(module, MAX_MODULE_LINES)
    lines = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f in _functions(ast.parse(text))}
    assert {name: count for name, count in lines.items() if count > MAX_FUNCTION_LINES} == {}


def test_only_the_command_line_prints() -> None:
    printing = {
        module
        for module in MODULES
        if not module.startswith("cli/")
        for node in ast.walk(ast.parse((SOURCE / module).read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing <= PROGRAMS


def test_every_name_can_be_guessed() -> None:
    folders = {part for module in MODULES for part in Path(module).with_suffix("").parts}
    assert not folders & {"utils", "common", "core", "helpers", "misc", "told", "slots", "subjects", "shown"}
    assert not folders & {"submitted", "absent", "hints", "carrying", "origin", "tree"}


def test_a_folder_can_be_read_as_a_list() -> None:
    counts = Counter(
        Path(module).parent.as_posix() for module in MODULES if not module.endswith("__init__.py")
    )
    assert set(LISTS) <= set(counts)
    too_long = {folder: count for folder, count in counts.items() if count > MAX_FOLDER_MODULES}
    assert too_long.keys() <= set(LISTS), too_long


def test_one_word_names_one_class() -> None:
    """An underscore makes no other word of it."""
    homes: dict[str, list[str]] = {}
    for module in MODULES:
        for node in ast.walk(ast.parse((SOURCE / module).read_text())):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name.lstrip("_"), []).append(module)
    assert {
        name: where for name, where in homes.items() if len(where) > 1
    }.keys() == SHARED_CLASS_NAMES.keys()


@pytest.mark.parametrize("test", sorted(t.relative_to(TESTS).as_posix() for t in TESTS.rglob("test_*.py")))
def test_tests_lie_where_their_module_lies(test: str) -> None:
    """`test_MODULE.py` tests the module or package of that name, `test_MODULE_ASPECT.py` a part of it."""
    path = Path(test)
    words = path.stem.split("_")[1:]
    names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
    package = SOURCE / path.parent
    has_module = any((package / f"{name}.py").is_file() or (package / name).is_dir() for name in names)
    assert has_module != (test in ACROSS_MODULES)
