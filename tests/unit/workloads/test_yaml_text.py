from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gpuyard.workloads.yaml_text import to_yaml

TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.text("ab:#- \n\t")


def read(text: str, version: tuple[int, int]) -> Any:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = version
    return yaml.load(io.StringIO(text))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize("version", [(1, 1), (1, 2)])
@given(value=st.dictionaries(TEXT, JSON, max_size=4))
def test_both_versions_of_yaml_read_it_back(version: tuple[int, int], value: dict[str, Any]) -> None:
    assert read(to_yaml([value]), version) == value


@pytest.mark.parametrize("version", [(1, 1), (1, 2)])
@pytest.mark.parametrize(
    "text",
    ["on", "No", "y", "NULL", "1e3", "007", "12:30", "0x1", "-", "- a", "a: b", "a #b", "a:", "", " a", "~",
     "2024-01-02", "=", "<<", "*a", "&a", "!a", "%a", "@a", "`a", "\u2028", "\ufeff", "\x7f", "\x85", "😀",
     "é", "16Gi", "500m", "1k", "a\nb", "a\nb\n", "a\n\nb: c\n", "a\n\n", "\na\n", " a\nb\n",
     "a\n b \n---\n", "a\r\nb\n", "a\n\tb\n", "a\n ", "a\n#\n...\n", "\n", "a\n\x07\n"],
)  # fmt: skip
def test_text_stays_text(version: tuple[int, int], text: str) -> None:
    assert read(to_yaml([{"a": [text], text: 1}]), version) == {"a": [text], text: 1}


def test_text_of_several_lines_is_shown_as_it_is() -> None:
    assert to_yaml(
        [{"data": {"x.py": "import sys\n\nif sys:\n    pass\n", "z": "a\nb"}, "l": ["a\nb\n"]}]
    ) == (
        "data:\n"
        "  x.py: |\n"
        "    import sys\n"
        "\n"
        "    if sys:\n"
        "        pass\n"
        "  z: |-\n"
        "    a\n"
        "    b\n"
        "l:\n"
        "- |\n"
        "  a\n"
        "  b\n"
    )


def test_it_looks_like_kubectl_s() -> None:
    manifest = {
        "kind": "Job",
        "labels": {"gpuyard.io/run": "a-1"},
        "none": [],
        "env": [{"name": "A", "value": "on"}, {"name": "B", "value": "two words"}],
        "limits": {"cpu": "4", "memory": "16Gi", "i": 3, "b": True},
    }
    assert to_yaml([manifest, {"a": {}}]) == (
        "kind: Job\n"
        "labels:\n"
        "  gpuyard.io/run: a-1\n"
        "none: []\n"
        "env:\n"
        "- name: A\n"
        '  value: "on"\n'
        "- name: B\n"
        '  value: "two words"\n'
        "limits:\n"
        '  cpu: "4"\n'
        "  memory: 16Gi\n"
        "  i: 3\n"
        "  b: true\n"
        "---\n"
        "a: {}\n"
    )
