"""Reading specs: what good ones mean, and what each slip is told."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpuyard.errors import Problem, SpecError
from gpuyard.workloads.spec.run_spec import RunSpec, load_spec
from gpuyard.workloads.yaml_text import to_yaml
from tests.unit.workloads.flags import flags_of

#: Text that an environment can hold and YAML can carry.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def load(text: str | bytes | None, environ: dict[str, str] | None = None, **flags: Any) -> RunSpec:
    return load_spec(text, "gpuyard.yaml", flags_of(**flags), environ or {})


def problems(text: str | bytes | None, environ: dict[str, str] | None = None, **flags: Any) -> list[Problem]:
    with pytest.raises(SpecError) as caught:
        load(text, environ, **flags)
    return list(caught.value.problems)


FULL = """\
name: train-1
resources:
  gpus: H100-SXM:2
  cpus: 500m
  memory: 16Gi
  shm: 4Gi
workdir: ~/code
env:
  EPOCHS: 3
run: train.py --lr 0.1
python: /usr/bin/python3
retries: 2
priority: high
node_selector:
  zone: on
tolerations:
- key: dedicated
  operator: Equal
  value: ml
  effect: NoExecute
  tolerationSeconds: 60
affinity:
  nodeAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 10
      preference:
        matchExpressions:
        - {key: rack, operator: In, values: [1, on]}
"""


def test_every_key_is_read() -> None:
    spec = load(FULL)
    assert (spec.name, spec.run, spec.python) == ("train-1", "train.py --lr 0.1", "/usr/bin/python3")
    assert (spec.gpus.count, spec.gpus.models[0].name) == (2, "H100")
    assert (spec.cpus, spec.memory, spec.shm) == ("500m", "16Gi", "4Gi")
    assert (spec.workdir, spec.retries, spec.priority) == ("~/code", 2, "high")
    assert spec.env == {"EPOCHS": "3"}
    assert spec.node_selector == {"zone": "on"}
    assert spec.tolerations == (
        {"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoExecute",
         "tolerationSeconds": 60},
    )  # fmt: skip
    assert spec.affinity == {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 10, "preference": {
                    "matchExpressions": [{"key": "rack", "operator": "In", "values": ["1", "on"]}]}}
            ]
        }
    }  # fmt: skip


def test_a_command_is_all_that_is_needed() -> None:
    spec = load("run: python train.py")
    assert spec == RunSpec(run="python train.py")
    assert spec.gpus.count == 0


def test_a_list_is_an_argv() -> None:
    assert load("run: [echo, on, 1e3, 'a b']").run == ("echo", "on", "1e3", "a b")


@pytest.mark.parametrize(
    "written",
    ["on", "off", "yes", "no", "y", "true", "1e-3", "007", "0x1F", "1_000", "2024-01-02", "12:30:00", "null",
     "~", "NULL", ".inf", "3.10", "+1", "=", "a: b".replace(": ", ":")],
)  # fmt: skip
def test_env_values_are_text_whatever_yaml_makes_of_them(written: str) -> None:
    assert load(f"run: x\nenv:\n  A: {written}\n").env == {"A": written}


def test_env_text_in_every_yaml_style() -> None:
    text = """\
run: x
env:
  A: 'it''s'
  B: "tab\\t"
  C: |
    one
    two
  D: >-
    a
    b
  E: ''
"""
    assert load(text).env == {"A": "it's", "B": "tab\t", "C": "one\ntwo\n", "D": "a b", "E": ""}


def as_text(value: str) -> str:
    """The value as a spec file has it when it refers to no variable of the shell."""
    return value.replace("${", "$${")


@example({"A": "${", "B": "$${NAME}", "C": "$$${"})
@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), TEXT))
def test_any_env_text_survives_yaml(env: dict[str, str]) -> None:
    written = {f"V_{key}": as_text(value) for key, value in env.items()}
    assert load(to_yaml([{"run": "x", "env": written}])).env == {
        f"V_{key}": value for key, value in env.items()
    }


@given(TEXT)
def test_any_env_text_survives_json_which_is_yaml(value: str) -> None:
    text = json.dumps({"run": "x", "env": {"A": as_text(value)}})
    # JSON writes characters beyond the BMP as two halves, which is not YAML.
    if all(ord(character) < 0x10000 for character in value):
        assert load(text).env == {"A": value}


def test_a_key_without_a_value_is_taken_from_the_shell() -> None:
    assert load("run: x\nenv:\n  HF_TOKEN:\n", {"HF_TOKEN": "s3cret"}).env == {"HF_TOKEN": "s3cret"}
    assert load(None, {"HF_TOKEN": ""}, run="x", env=("HF_TOKEN",)).env == {"HF_TOKEN": ""}


def test_a_key_without_a_value_that_the_shell_lacks() -> None:
    [problem] = problems("run: x\nenv:\n  HF_TOKEN:\n")
    assert (problem.path, problem.line) == ("env.HF_TOKEN", 3)
    assert "isn't set in your shell" in problem.message
    assert "export HF_TOKEN" in problem.message
    [flag] = problems(None, run="x", env=("HF_TOKEN",))
    assert (flag.path, flag.line) == ("--env HF_TOKEN", 0)


def test_flags_equal_the_file_and_win() -> None:
    by_flags = load(
        None, name="train-1", gpus="H100-SXM:2", cpus="500m", memory="16Gi", shm="4Gi", workdir="~/code",
        env=("EPOCHS=3",), run="train.py --lr 0.1", python="/usr/bin/python3", retries="2", priority="high",
        node_selector=("zone=on",),
    )  # fmt: skip
    by_file = load(FULL)
    for key in ("name", "gpus", "cpus", "memory", "shm", "workdir", "env", "run", "python", "retries",
                "priority", "node_selector"):  # fmt: skip
        assert getattr(by_flags, key) == getattr(by_file, key), key
    both = load(FULL, gpus="4", env=("EPOCHS=9", "X=a=b", "E="), memory="1Gi", shm="1Gi", retries="0")
    assert (both.gpus.count, both.gpus.models, both.memory, both.retries) == (4, (), "1Gi", 0)
    assert both.env == {"EPOCHS": "9", "X": "a=b", "E": ""}
    assert both.cpus == "500m"
    assert load("run: [a]\nimage: x", run=("b", "c"), image="y").run == ("b", "c")


def test_a_flag_mends_a_bad_value_in_the_file() -> None:
    assert load("run: x\nresources: {gpus: lots}\n", gpus="2").gpus.count == 2


_MUST = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [
    {"key": "zone", "operator": "In", "values": ["a"]}]}]}}  # fmt: skip


@pytest.mark.parametrize("write", [json.dumps, lambda value: to_yaml([value])], ids=["json", "yaml"])
def test_an_affinity_of_the_flags_stands_in_the_place_of_the_file_s(write: Any) -> None:
    text = "run: x\naffinity:\n  podAffinity: {}\n"
    assert load(text, affinity=write({"nodeAffinity": _MUST})).affinity == {"nodeAffinity": _MUST}


@pytest.mark.parametrize("text", ["nodeAffinty: {}", "[a, b]", "{a: ", "words"])
def test_a_bad_affinity_names_its_flag(text: str) -> None:
    (problem,) = problems("run: x", affinity=text)
    assert problem.path == "--affinity"


def test_tolerations_of_flags_are_added() -> None:
    spec = load("run: x\ntolerations: [{key: a, operator: Exists}]", tolerations=("b=c:NoSchedule", "d"))
    assert spec.tolerations == (
        {"key": "a", "operator": "Exists"},
        {"key": "b", "operator": "Equal", "value": "c", "effect": "NoSchedule"},
        {"key": "d", "operator": "Exists"},
    )


def test_a_shell_is_for_a_line_of_text() -> None:
    assert load("run: a | b\nshell: bash -l").shell == "bash -l"
    for line in ("python a.py", "./a.py", "cd src; a.py", "a.pyc"):
        assert load(f"run: {line}\nshell: bash").run == line
    assert load("run: a.py").run == "a.py"
    assert load("run: x\nshell: zsh", run="a b", shell="sh").shell == "sh"
    assert load("run: x\nshell: zsh", run=("a", "b")).run == ("a", "b")
    for problem in (*problems("run: x", run=("a", "b"), shell="sh"), *problems("run: [a]\nshell: sh")):
        assert (problem.path, "no shell runs a list" in problem.message) == (
            "shell" if problem.line else "--shell",
            True,
        )


def test_pull_secrets_of_flags_are_added_and_each_counts_once() -> None:
    spec = load("run: x\nimage: i\nimage_pull_secrets: [a, b]", image_pull_secrets=("b", "c"))
    assert spec.image_pull_secrets == ("a", "b", "c")
    (problem,) = problems("run: x\nimage: i", image_pull_secrets=("My_Secret",))
    assert (problem.path, problem.line) == ("--image-pull-secret", 0)


def test_null_is_absent_outside_env() -> None:
    spec = load("run: x\nimage: null\nresources:\n  memory: null\n  shm:\nworkdir:\nenv:\ntolerations:\n")
    assert spec == RunSpec(run="x")


@pytest.mark.parametrize(
    ("requirement", "part"),
    [
        ("{key: a, operator: In}", "needs some"),
        ("{key: a, operator: Exists, values: [b]}", "drop them"),
        ("{key: a, operator: Gt, values: [b]}", "one whole number"),
        ("{key: a, operator: Gt}", "one whole number"),
        ("{key: a, operator: Is}", "must be 'In'"),
        ("{operator: Exists}", "this key is needed"),
    ],
)
def test_node_requirements_are_checked(requirement: str, part: str) -> None:
    [problem] = problems(
        "run: x\naffinity:\n  nodeAffinity:\n    requiredDuringSchedulingIgnoredDuringExecution:\n"
        f"      nodeSelectorTerms:\n      - matchExpressions:\n        - {requirement}\n"
    )
    assert problem.line == 7
    assert "nodeSelectorTerms[0].matchExpressions[0]" in problem.path
    assert part in problem.message


ONE_PROBLEM = {
    # the issue of typing errors
    "rum: x\nrun: x": ("rum", 1, "did you mean 'run'?"),
    "run: x\nresorces: {}": ("resorces", 2, "did you mean 'resources'?"),
    "run: x\nresources:\n  gpu: 2": ("resources.gpu", 3, "did you mean 'gpus'?"),
    "run: x\ncpu: 2": ("cpu", 2, "did you mean 'resources.cpus'?"),
    "run: x\ngpus: 2": ("gpus", 2, "did you mean 'resources.gpus'?"),
    "run: x\nenvironment: {}": ("environment", 2, "did you mean 'env'?"),
    "run: x\nresources:\n  env: {}": ("resources.env", 3, "belongs at the top level"),
    "run: x\nresources:\n  flops: 1": ("resources.flops", 3, "the keys here are gpus, cpus, memory, shm"),
    "run: x\nlicense: {}": ("license", 2, "the keys here are name, resources"),
    "run: x\ntolerations:\n- oprator: Exists": ("tolerations[0].oprator", 3, "did you mean 'operator'?"),
    "run: x\naffinity:\n  nodeAffinty: {}": ("affinity.nodeAffinty", 3, "did you mean 'nodeAffinity'?"),
    "run: x\ntolerations:\n- {key: a, operator: Exists, value: b}": ("tolerations[0]", 3, "drop the value"),
    "run: x\ntolerations:\n- {effect: NoSchedule}": ("tolerations[0]", 3, "has no key"),
    "run: x\ntolerations:\n- {key: a, operator: Exists, tolerationSeconds: 5}": (
        "tolerations[0]", 3, "only effect: NoExecute"),
    # types
    "run: x\nretries: yes": ("retries", 2, "must be a whole number, not 'yes'"),
    "run: x\nretries: 1.5": ("retries", 2, "must be a whole number"),
    "run: x\nretries: -1": ("retries", 2, "must be at least 0"),
    "run: x\nretries: [1]": ("retries", 2, "must be a whole number, not a list"),
    "run: x\nname: [a]": ("name", 2, "must be text, not a list"),
    "run: x\nresources: 2": ("resources", 2, "must be a mapping of keys to values, not '2'"),
    "run: x\nenv: [A=1]": ("env", 2, "must be a mapping of keys to values, not a list"),
    "run: x\nenv:\n  A: {b: c}": ("env.A", 3, "must be text, not a mapping"),
    "run: x\ntolerations: {}": ("tolerations", 2, "must be a list, not a mapping"),
    "run: x\ntolerations:\n- a": ("tolerations[0]", 3, "must be a mapping"),
    "run: x\ntolerations:\n- key: a\n  effect: Never": ("tolerations[0].effect", 4, "'NoSchedule'"),
    "run: {a: b}": ("run", 1, "must be a command line, or a list of words"),
    "run: [a, [b]]": ("run", 1, "must be a command line, or a list of words"),
    # values
    "run: x\nresources: {gpus: 'H10O:2'}": ("resources.gpus", 2, "did you mean H100?"),
    "run: x\nresources: {gpus: [2]}": ("resources.gpus", 2, "write a number, a model, or both"),
    "run: x\nresources: {gpus: -1}": ("resources.gpus", 2, "is not a GPU request"),
    "run: x\nresources: {cpus: many}": ("resources.cpus", 2, "'many' is not a quantity"),
    "run: x\nresources: {cpus: 0}": ("resources.cpus", 2, "is no number of CPUs"),
    "run: x\nresources: {cpus: -2}": ("resources.cpus", 2, "is no number of CPUs"),
    "run: x\nresources: {memory: 16GB}": ("resources.memory", 2, "write 16Gi (1024s) or 16G (1000s)"),
    "run: x\nresources: {memory: 16 GiB}": ("resources.memory", 2, "write 16Gi"),
    "run: x\nresources: {memory: 16}": ("resources.memory", 2, "means 16 bytes; write the unit"),
    "run: x\nresources: {memory: -1Gi}": ("resources.memory", 2, "write the unit"),
    "run: x\nresources: {memory: 1e60}": ("resources.memory", 2, "more than any machine has"),
    "run: x\nresources: {shm: 2Gi, memory: 1Gi}": ("resources.shm", 2, "is more than memory (1Gi)"),
    "run: x\nname: My_Run": ("name", 2, "'my-run' would do"),
    "run: x\nname: ''": ("name", 2, "can't name a run"),
    "run: x\npriority: High": ("priority", 2, "can't name a PriorityClass"),
    "run: x\nimage: a b": ("image", 2, "can't name an image"),
    "run: x\nimage: a\nimage_pull_secrets: b": ("image_pull_secrets", 3, "must be a list, not 'b'"),
    "run: x\nimage: a\nimage_pull_secrets: [a, B]": (
        "image_pull_secrets[1]", 3, "'B' can't name a Secret"),
    "run: x\nimage: a\nimagePullSecrets: [b]": ("imagePullSecrets", 3, "mean 'image_pull_secrets'?"),
    "run: x\nimage_pull_secrets: [b]": ("image_pull_secrets", 2, "a run without an image pulls none"),
    "run: x\nimage: a\nworkdir: src": ("workdir", 3, "must be an absolute path"),
    "run: x\nworkdir: ''": ("workdir", 2, "is empty"),
    "run: x\nenv: {1A: b}": ("env.1A", 2, "can't name an environment variable"),
    "run: x\nenv: {A=B: c}": ("env.A=B", 2, "can't name an environment variable"),
    "run: x\nenv: {NVIDIA_VISIBLE_DEVICES: all}": (
        "env.NVIDIA_VISIBLE_DEVICES", 2, "is set by the allocation of GPUs; ask for GPUs with"),
    "run: x\nenv: {CUDA_VISIBLE_DEVICES: 0}": ("env.CUDA_VISIBLE_DEVICES", 2, "is set by the allocation"),
    "run: x\nnode_selector: {a b: c}": ("node_selector.a b", 2, "can't be a label's key"),
    "run: x\nnode_selector: {a: b c}": ("node_selector.a", 2, "can't be a label's value"),
    "run: ''": ("run", 1, "there is nothing to run"),
    "run: []": ("run", 1, "there is nothing to run"),
    "run: echo 'a": ("run", 1, "no closing quotation"),
    "name: a": ("run", 0, "there is nothing to run"),
    "run: x\nshell: ''": ("shell", 2, "names no shell"),
    "run: x\nshell: bash -'": ("shell", 2, "is no shell: no closing quotation"),
    "run: [x, y]\nshell: bash": ("shell", 2, "no shell runs a list of words"),
    "run: train.py --lr 1\nshell: bash": ("run", 1, "write: python train.py --lr 1"),
    "run: train.py | tee log": ("run", 1, "write: python train.py | tee log"),
    # YAML
    "": ("yaml", 1, "the file is empty"),
    "\n# nothing\n": ("yaml", 1, "the file is empty"),
    "---\n": ("yaml", 2, "the file is empty"),
    "- run: x": ("yaml", 1, "a spec is a mapping"),
    "train.py": ("yaml", 1, "a spec is a mapping"),
    "run: x\n---\nrun: y": ("yaml", 2, "a second document starts here"),
    "run: x\nrun: y": ("run", 2, "there already, on line 1"),
    "run: x\nenv:\n  A: 1\n  B: 2\n  A: 3": ("env.A", 5, "there already, on line 3"),
    "run: x\nenv:\n\tA: 1": ("yaml", 3, "a tab can't indent YAML"),
    "run: x\nname: &a b": ("yaml", 2, "anchors and aliases"),
    "run: x\nname: *a": ("yaml", 2, "anchors and aliases"),
    "run: x\nenv: &e\n  A: 1": ("yaml", 2, "anchors and aliases"),
    "run: !!python/object/apply:os.system [id]": ("yaml", 1, "the tag"),
    "run: x\nenv: [a": ("yaml", 2, "not readable as YAML"),
    "run: x\n env: {}": ("yaml", 2, "not readable as YAML"),
    "run: 'x": ("yaml", 1, "not readable as YAML"),
    "? [a]\n: b": ("yaml", 1, "a key must be plain text"),
    'run: "\\ud800"': ("yaml", 1, "half a surrogate pair"),
    'run: "a\\0b"': ("yaml", 1, "NUL"),
    'run: "\\UFFFFFFFF"': ("yaml", 0, "not readable as YAML"),
    "%YAML 9.9\n--- {run: x}": ("yaml", 1, "not readable as YAML"),
    "run: x\nname: \x00": ("yaml", 2, "U+0000"),
    "[" * 50_000: ("yaml", 1, "a spec is a mapping"),
    "a: " + "[" * 50_000: ("yaml", 1, "nested deeper"),
    "run: " + "x" * 2_000_000: ("yaml", 0, "larger than"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ONE_PROBLEM.items(), ids=lambda value: repr(value)[:40])
def test_a_slip_is_told_with_its_place_and_remedy(text: str, expected: tuple[str, int, str]) -> None:
    found = problems(text)
    assert [(problem.path, problem.line) for problem in found] == [expected[:2]]
    assert expected[2] in found[0].message


@pytest.mark.parametrize(
    ("flags", "path", "part"),
    [
        ({"gpus": "H10O"}, "--gpus", "did you mean H100?"),
        ({"memory": "lots"}, "--memory", "not a quantity"),
        ({"retries": "x"}, "--retries", "whole number"),
        ({"name": "A"}, "--name", "can't name a run"),
        ({"env": ("1=2",)}, "--env 1", "can't name an environment variable"),
        ({"env": ("=2",)}, "--env", "'=2' has no name; write KEY=VALUE"),
        ({"env": ("CUDA_VISIBLE_DEVICES=1",)}, "--env CUDA_VISIBLE_DEVICES", "set by the allocation"),
        ({"node_selector": ("a",)}, "--node-selector", "write KEY=VALUE"),
        ({"tolerations": ("a:Nope",)}, "--toleration", "must be"),
        ({"tolerations": (":",)}, "--toleration", "write for example"),
        ({"run": ("",)}, "the command", "nothing to run"),
        ({"image": "a", "workdir": "b"}, "--workdir", "absolute"),
        ({"run": ("echo", "a\ud800")}, "the command", "isn't text in UTF-8"),
        ({"run": "echo \udcff"}, "the command", "isn't text in UTF-8"),
        ({"workdir": "/a\0b"}, "--workdir", "isn't text in UTF-8"),
        ({"env": ("A=\udcff",)}, "--env A", "isn't text in UTF-8"),
    ],
)
def test_a_problem_of_a_flag_names_the_flag(flags: dict[str, Any], path: str, part: str) -> None:
    [problem] = problems(None, **{"run": "x", **flags})
    assert (problem.path, problem.line) == (path, 0)
    assert part in problem.message


def test_all_problems_come_at_once_in_the_order_of_lines() -> None:
    text = (
        "rum: a\nresources:\n  gpus: nope\n  cpus: x\nretries: x\n"
        "env:\n  A:\n  NVIDIA_VISIBLE_DEVICES: 1\nname: A\n"
    )
    with pytest.raises(SpecError) as caught:
        load(text, memory="x")
    assert [(p.path, p.line) for p in caught.value.problems] == [
        ("rum", 1), ("resources.gpus", 3), ("resources.cpus", 4), ("retries", 5), ("env.A", 7),
        ("env.NVIDIA_VISIBLE_DEVICES", 8), ("name", 9), ("--memory", 0), ("run", 0),
    ]  # fmt: skip
    assert str(caught.value).startswith("gpuyard.yaml has 9 problems:\n  gpuyard.yaml:1: rum: unknown key")
    assert caught.value.exit_code == 2


def test_bytes_that_are_no_text() -> None:
    [problem] = problems(b"run: x\n\x89PNG\r\n\x1a\n")
    assert (problem.path, problem.line) == ("encoding", 2)
    assert "0x89" in problem.message


def test_a_byte_order_mark_and_windows_lines_are_fine() -> None:
    assert load(b"\xef\xbb\xbfrun: x\r\nname: a\r\n").name == "a"
    assert load("\ufeffrun: x").run == "x"


def test_secrets_stay_out_of_messages() -> None:
    with pytest.raises(SpecError) as caught:
        load("run: x\nenv:\n  1TOKEN: s3cret\n  CUDA_VISIBLE_DEVICES: s3cret\n", env=("2=s3cret",))
    assert "s3cret" not in str(caught.value)


@given(st.text(st.characters() | st.sampled_from(":-[]{}#&*!|>'\"%@`\n\t ,?")))
def test_any_text_is_a_spec_or_a_spec_error(text: str) -> None:
    try:
        load(text)
    except SpecError as error:
        assert error.problems


KEYS = st.sampled_from(
    ["name", "resources", "gpus", "workdir", "env", "run", "shell", "python", "image", "retries", "priority",
     "key", "node_selector", "tolerations", "affinity", "nodeAffinity", "memory", "shm", "x",
     "image_pull_secrets"]
)  # fmt: skip
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, TREES, max_size=6), st.dictionaries(KEYS, TEXT))
def test_any_tree_is_a_spec_or_a_spec_error(tree: dict[str, object], shell: dict[str, str]) -> None:
    try:
        load(to_yaml([tree]), shell)
    except SpecError as error:
        assert error.problems


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ["name", "gpus", "cpus", "memory", "shm", "workdir", "image", "python", "shell", "retries",
             "priority"],
            TEXT,
        ),
    ),
    st.lists(TEXT).map(tuple),
)  # fmt: skip
def test_any_flags_are_a_spec_or_a_spec_error(flags: dict[str, Any], words: tuple[str, ...]) -> None:
    try:
        keys = ("run", "env", "node_selector", "tolerations", "image_pull_secrets")
        lists: dict[str, Any] = dict.fromkeys(keys, words)
        load(None, **lists, **flags)
    except SpecError as error:
        assert error.problems


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1d1h1m1s", 90_061),
        ("24855d", 24_855 * 86_400),
    ],
)
def test_timeouts(written: str, seconds: int) -> None:
    assert load(f"run: x\ntimeout: {written}").timeout == timedelta(seconds=seconds)
    assert load(None, run="x", timeout=written).timeout == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written", ["90", "0", "", "0s", "1.5h", "-1s", "1m1h", "24856d", "999999d", "1 h", "[1s]"]
)
def test_what_is_no_timeout(written: str) -> None:
    [problem] = problems(f"run: x\ntimeout: {written or chr(39) * 2}")
    assert (problem.path, problem.line) == ("timeout", 2)


def test_a_name_that_can_t_be_a_variable_s_is_told_once() -> None:
    [problem] = problems("run: x\nenv: {A B: }")
    assert "can't name an environment variable" in problem.message
