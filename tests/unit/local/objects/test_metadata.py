"""The rules that all kinds share."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.objects import CONFIG_MAPS, NAMESPACES
from gpuyard.local.objects import metadata as meta
from gpuyard.local.objects.kinds.served import yard_kinds

CONFIG_MAP = yard_kinds().of(CONFIG_MAPS)
NAMESPACE = yard_kinds().of(NAMESPACES)


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({"name": "a.b-c"}, None),
        (
            {"name": "a_b"},
            'metadata.name: Invalid value: "a_b": a lowercase RFC 1123 subdomain must consist of',
        ),
        ({"name": "a" * 254}, "must be no more than 253 characters"),
        ({}, "metadata.name: Required value: name or generateName is required"),
        ({"name": "a", "labels": {"team.io/x": "Y_1"}}, None),
        ({"name": "a", "labels": {"team.io/x": ""}}, None),
        (
            {"name": "a", "labels": {"x": "a b"}},
            'metadata.labels: Invalid value: "a b": a valid label must be',
        ),
        ({"name": "a", "labels": {"x": "v" * 64}}, "must be no more than 63 bytes"),
        ({"name": "a", "labels": {"-x": "v"}}, "name part must consist of alphanumeric characters"),
        ({"name": "a", "labels": {"Team_/x": "v"}}, "prefix part a lowercase RFC 1123 subdomain"),
        ({"name": "a", "labels": {"a/": "v"}}, "name part must be non-empty"),
        ({"name": "a", "labels": {"k" * 64: "v"}}, "name part must be no more than 63 bytes"),
        ({"name": "a", "annotations": {"Any-Key": "any value\n"}}, None),
        (
            {"name": "a", "annotations": {"k": "v" * 262144}},
            "metadata.annotations: Too long: may not be more",
        ),
        ({"name": "a", "finalizers": ["a b"]}, "metadata.finalizers: Invalid value"),
        (
            {"name": "a", "ownerReferences": [{"kind": "Job"}]},
            "metadata.ownerReferences[0].uid: Required value",
        ),
    ],
)
def test_validate(metadata: dict[str, Any], problem: str | None) -> None:
    found = [f"{e.path}: {e.message}" for e in meta.validate(CONFIG_MAP, {"metadata": metadata}, None)]
    if problem is None:
        assert found == []
    else:
        assert any(problem in line for line in found), found


def test_names_of_namespaces_are_labels() -> None:
    found = meta.validate(NAMESPACE, {"metadata": {"name": "a.b"}}, None)
    assert "must not contain dots" in found[0].message


def test_long_prefixes_leave_room_for_the_suffix() -> None:
    import random

    name = meta.generated_name("x" * 80, random.Random(1))
    assert len(name) == 63
