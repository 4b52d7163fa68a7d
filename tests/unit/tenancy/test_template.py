from dataclasses import dataclass
from typing import Any

import pytest

from gpuyard.tenancy.chart import helm_chart, kustomize
from gpuyard.tenancy.template import Condition, Only, chart, resolve
from gpuyard.workloads.yaml_text import to_yaml


@dataclass(frozen=True)
class Options:
    """One switch."""

    on: bool


ON = Condition[Options](lambda options: options.on, 'eq .Values.on "yes"')
OFF = Condition[Options](lambda options: not options.on, "not .Values.on")
TREE: dict[str, Any] = {
    "kind": "Thing",
    "metadata": {"name": "thing"},
    "image": "@image@",
    "text": "before @image@ after",
    "selector": "@json:selector@",
    "more": "@json:more@",
    "switch": Only(ON, {"deep": [1]}),
    "items": ["always", Only(ON, {"name": "on"}), Only(OFF, "off")],
}


@pytest.mark.parametrize("on", [True, False])
def test_parts_are_there_under_their_condition(on: bool) -> None:
    got = resolve(TREE, Options(on), {"image": "i", "selector": {"a": "b"}, "more": [1]})
    assert got == {
        "kind": "Thing",
        "metadata": {"name": "thing"},
        "image": "i",
        "text": "before i after",
        "selector": {"a": "b"},
        "more": [1],
        **({"switch": {"deep": [1]}} if on else {}),
        "items": ["always", {"name": "on"} if on else "off"],
    }


def test_a_chart_has_the_same_parts() -> None:
    ((name, text),) = chart([Only(OFF, TREE)], to_yaml, {"more": "(list .Values.more)"})
    assert name == "thing-thing.yaml"
    assert (
        text
        == """\
{{- if not .Values.on }}
kind: Thing
metadata:
  name: thing
image: "{{ .Values.image }}"
text: "before {{ .Values.image }} after"
selector: {{ toJson .Values.selector }}
more: {{ toJson (list .Values.more) }}
{{- if eq .Values.on "yes" }}
switch:
  deep:
  - 1
{{- end }}
items:
- always
{{- if eq .Values.on "yes" }}
- name: "on"
{{- end }}
{{- if not .Values.on }}
- "off"
{{- end }}
{{- end }}
"""
    )


def test_every_file_of_deploy_has_its_content() -> None:
    files = helm_chart("1.2.3", to_yaml) | kustomize(to_yaml)
    assert 'version: "1.2.3"' in files["Chart.yaml"]
    assert all(text.strip() and "@if" not in text and "@end" not in text for text in files.values())
    opened = sum(text.count("{{- if") for text in files.values())
    assert opened == sum(text.count("{{- end }}") for text in files.values()) > 5
