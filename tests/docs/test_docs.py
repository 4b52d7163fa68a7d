"""The documents name every command, key, state and kind; their links lead somewhere, their commands parse."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gpuyard.cli.main import COMMANDS, cli
from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import Step
from gpuyard.explain.placement import Blocker
from gpuyard.kube.wellknown import ALLOCATED_ENV
from gpuyard.local.objects.kinds.kind import KindSpec
from gpuyard.local.objects.kinds.reviews import REVIEWS
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.workloads.run_state import Reason, State, run_state
from gpuyard.workloads.spec.model import RESOURCES, SPEC
from gpuyard.workloads.spec.run_spec import load_spec
from gpuyard.workloads.spec.service.reading import KEYS, TARGET_KEYS

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs/reference"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")])


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def read(name: str) -> str:
    return (REFERENCE / name).read_text()


def section(text: str, heading: str) -> str:
    """From a heading to the next one of its level or above."""
    level = heading.split(" ")[0]
    found = re.search(
        rf"^{re.escape(heading)}$\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert found, f"no heading {heading!r}"
    return found[1]


# -- what must be there ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_all_its_options_in_the_reference(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    text = section(read("commands.md"), f"### {name}")
    for parameter in command.params:
        shown = isinstance(parameter, click.Option) and not parameter.hidden
        for spelling in parameter.opts if shown else ():
            assert re.search(rf"`{spelling}[ `]", text), f"{spelling} of gpuyard {name}"


def test_the_reference_of_commands_is_what_the_generator_writes() -> None:
    tool = ROOT / "tools/generate_commands.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_key_of_a_spec_is_documented() -> None:
    text = read("spec.md")
    keys = {*SPEC.keys} - {"resources"}
    keys |= {f"resources.{key}" for key in RESOURCES.keys}
    documented = set(re.findall(r"^\| \[`([a-z_.]+)`\]", section(text, "## Keys"), re.MULTILINE))
    assert documented == keys
    assert all(f"`{name}`" in text for name in ALLOCATED_ENV)


def test_every_key_of_a_service_is_documented() -> None:
    documented = re.findall(r"^\| `([a-z0-9_.]+)` \|", section(read("spec.md"), "## service"), re.MULTILINE)
    assert documented == [
        *(key for key in KEYS[: KEYS.index("target")]),
        *(f"target.{key}" for key in TARGET_KEYS),
        *(key for key in KEYS[KEYS.index("target") + 1 :]),
    ]


def test_every_state_and_reason_is_documented() -> None:
    text = read("json.md")
    for heading, values in (("## States", State), ("## Reasons", Reason)):
        documented = re.findall(r"^\| `(\w+)` \|", section(text, heading), re.MULTILINE)
        assert sorted(documented) == sorted(values)


def test_the_keys_of_a_run_are_documented() -> None:
    job = {"metadata": {"name": "x", "labels": {}}, "spec": {"template": {"spec": {"containers": [{}]}}}}
    keys = run_state(job, []).to_json()
    documented = re.findall(r"^\| `(\w+)` \|", section(read("json.md"), "## A run"), re.MULTILINE)
    assert sorted(documented) == sorted(keys)


def test_every_blocker_is_documented() -> None:
    guide = (ROOT / "docs/how-to/see-why-a-run-waits.md").read_text()
    for text in (section(read("json.md"), "## explain"), section(guide, "## What the nodes' part means")):
        assert all(f"`{blocker}`" in text for blocker in Blocker)


def test_every_step_and_cause_of_the_ladder_is_documented() -> None:
    text = section(read("json.md"), "## explain")
    guide = (ROOT / "docs/how-to/see-why-a-run-waits.md").read_text()
    for step in Step:
        assert f"| `{step}` |" in text and f"| `{step}` |" in guide
    documented = read("json.md")
    assert [cause for cause in Cause if f"`{cause}`" not in documented] == []


@pytest.mark.parametrize("kind", [*yard_kinds()], ids=lambda kind: kind.resource.kind)
def test_every_kind_is_documented(kind: KindSpec) -> None:
    text, resource = read("yard-api.md"), kind.resource
    row = [
        f"`{resource.api_version}`", resource.kind, f"`{resource.plural}`", _code(kind.short_names),
        "yes" if resource.namespaced else "no", _code([sub.name for sub in kind.subresources]),
    ]  # fmt: skip
    assert "| " + re.sub(r" +", " ", " | ".join(row) + " |") in section(text, "## Kinds")
    if kind.selectable_fields:
        assert f"| {resource.kind} | {_code(sorted(kind.selectable_fields))} |" in text


def test_no_kind_is_documented_that_is_not_served() -> None:
    table = section(read("yard-api.md"), "## Kinds").split("**Verbs**")[0]
    rows = re.findall(r"^\| `[\w./]+` \| (\w+) \|", table, re.MULTILINE)
    assert sorted(rows) == sorted(kind.resource.kind for kind in (*yard_kinds(), *REVIEWS))


def _code(words: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


# -- links ----------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    bare = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", bare, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} isn't there"
        assert not anchor or anchor in anchors(file), f"{file.name} has no heading for #{anchor}"


def test_no_two_decisions_have_one_number() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
    numbers = [page.name[:4] for page in pages]
    assert [number for number in numbers if numbers.count(number) > 1] == []
    assert [p.name for p in pages if not p.read_text().startswith(f"# {int(p.name[:4])}. ")] == []


def test_every_document_is_reachable_from_the_readme() -> None:
    found, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        found.add(page)
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text()):
            file = (page.parent / target).resolve()
            inside = [file] if file.suffix == ".md" else sorted(file.glob("*.md")) if file.is_dir() else []
            waiting += [other for other in inside if other.exists() and other not in found]
    assert [name_of(page) for page in PAGES if page not in found and "docs" in page.parts] == []


# -- examples -------------------------------------------------------------------------------------------


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """The words after `gpuyard` of each command line in a block."""
    for language, text in blocks(page):
        for line in text.splitlines() if language in ("", "console", "sh") else ():
            if line.startswith(("$ ", "gpuyard ")):
                yield from gpuyard_calls(line.removeprefix("$ "))


def gpuyard_calls(line: str) -> Iterator[list[str]]:
    for inner in re.findall(r"\$\((gpuyard [^)|]*)", line):
        yield shlex.split(inner)[1:]
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set("();<>|&"):
            if words[:1] == ["gpuyard"]:
                yield words[1:]
            words = []
        else:
            words.append(token)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_blocks_parse(page: Path) -> None:
    for words in commands(page):
        assert words and words[0] in COMMANDS, f"gpuyard {shlex.join(words)}"
        command = cli.get_command(click.Context(cli), words[0])
        assert command is not None
        try:
            command.make_context(words[0], words[1:])
        except click.UsageError as error:
            pytest.fail(f"gpuyard {shlex.join(words)}: {error.format_message()}")


def test_calls_are_found_in_a_line() -> None:
    line = "A=1 && gpuyard ps -o json | jq '.[] | x' # gpuyard no"
    assert list(gpuyard_calls(line)) == [["ps", "-o", "json"]]
    assert list(gpuyard_calls('kubectl --kubeconfig "$(gpuyard kubeconfig)" get po')) == [["kubeconfig"]]
    assert list(gpuyard_calls("gpuyard down --keep && gpuyard up --port 0")) == [
        ["down", "--keep"],
        ["up", "--port", "0"],
    ]


SPECS = [
    pytest.param(text, id=name_of(page))
    for page in PAGES
    for language, text in blocks(page)
    if language == "yaml" and re.search(r"^run:", text, re.MULTILINE)
]


@pytest.mark.parametrize("text", SPECS)
def test_specs_in_blocks_are_valid(text: str) -> None:
    assert load_spec(text, "a document", (), {"WANDB_API_KEY": "x", "USER": "ada"}).run


def test_there_are_specs_in_the_documents() -> None:
    assert len(SPECS) >= 2


def test_the_training_that_saves_does_so_as_it_stands_there(tmp_path: Path) -> None:
    page = ROOT / "docs/how-to/save-when-stopped.md"
    # The others show calls alone.
    programs = [text for language, text in blocks(page) if language == "python"]
    [program] = [text for text in programs if "signal.signal(" in text]
    (tmp_path / "train.py").write_text(program)
    start = 0
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "train.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        ) as training:
            assert training.stdout is not None
            assert training.stdout.readline() == f"from step {start}\n"
            training.terminate()
            said = re.fullmatch(r"saved step (\d+)\n", training.stdout.read())
        assert training.returncode == 143 and said
        start = int(said[1]) + 1


def test_the_walks_name_modules_that_are_there() -> None:
    text = (ROOT / "docs/explanation/three-walks.md").read_text()
    modules = [path.as_posix() for path in (ROOT / "src/gpuyard").rglob("*.py")]
    named = set(re.findall(r"`([a-z_/]+\.py)`", text))
    assert len(named) > 30
    assert not [name for name in named if not any(module.endswith(f"/{name}") for module in modules)]
