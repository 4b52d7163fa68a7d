"""Whatever of the right types comes in: defaults settle, rules and cells never raise."""

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.local.objects.kinds import schema
from gpuyard.local.objects.kinds.fields import invalid_object
from gpuyard.local.objects.kinds.kind import CreateContext, KindSpec
from gpuyard.local.objects.kinds.served import yard_kinds

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            "a",
            "A b",
            "In",
            "Exists",
            "Always",
            "Indexed",
            "NoExecute",
            "gpuyard-process",
            "nvidia.com/gpu",
            "cpu",
        ]
    ),
    st.text(max_size=3),
)
_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "s": _TEXTS,
    "b": st.booleans(),
    "i": st.integers(-2, 2**31 - 1),
    "l": st.integers(-2, 2**63 - 1),
    "q": st.sampled_from(["0", "1", "-1", "500m", "1.5", "2Gi", "1e3"]),
    "t": st.sampled_from(["2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z"]),
    "u": st.sampled_from(["2026-01-01T00:00:00.000001Z"]),
    "x": st.one_of(st.integers(0, 5), st.just("50%")),
    "d": st.sampled_from(["", "YQ=="]),
    "j": st.just({"a": 1}),
}
#: Fields that lead to where the rules are.
_LIKELY = {
    "metadata", "spec", "status", "template", "containers", "initContainers", "name", "image", "resources",
    "limits", "requests", "env", "affinity", "nodeAffinity", "tolerations", "conditions", "containerStatuses",
}  # fmt: skip


def _values(kind: str, depth: int) -> st.SearchStrategy[Any]:
    if kind[0] == "[":
        return st.lists(_values(kind[1:], depth), max_size=2)
    if kind[0] == "{":
        return st.dictionaries(_TEXTS, _values(kind[1:], depth), max_size=2)
    return _objects(kind[1:], depth + 1) if kind[0] == "@" else _SCALARS[kind]


def _objects(type_: str, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    if depth > 7:
        return st.just({})

    def fill(names: set[str]) -> st.SearchStrategy[dict[str, Any]]:
        fields = schema.types()[type_].fields
        return st.fixed_dictionaries({name: _values(fields[name], depth) for name in sorted(names)})

    fields = schema.types()[type_].fields
    likely = sorted(_LIKELY & fields.keys())
    chosen = st.builds(
        set.union,
        st.sets(st.sampled_from(sorted(fields)), max_size=3),
        st.sets(st.sampled_from(likely), max_size=len(likely)) if likely else st.just(set()),
    )
    return chosen.flatmap(fill)


@pytest.mark.parametrize("spec", [*yard_kinds()], ids=lambda spec: spec.resource.kind)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nothing_raises_but_refusals(spec: KindSpec, data: st.DataObject) -> None:
    manifest = data.draw(_objects(schema.type_name(spec.resource)))
    decoded, unknown = schema.decode(schema.type_name(spec.resource), manifest)
    assert unknown == []
    decoded.setdefault("metadata", {})["name"] = "a"
    spec.default(decoded)
    settled = copy.deepcopy(decoded)
    spec.default(settled)
    assert settled == decoded
    decoded["metadata"]["uid"] = "u"
    try:
        spec.prepare_create(decoded, CreateContext())
    except errors.Forbidden:
        return
    found = spec.validate(decoded, None)
    assert invalid_object(spec, "a", found).details["causes"] == [
        {"reason": e.type, "message": e.message, "field": e.path} for e in found
    ]
    old = copy.deepcopy(decoded)
    spec.prepare_update(decoded, old)
    assert spec.validate(decoded, old) is not None
    for column in spec.columns:
        column.cell(decoded | {"status": manifest.get("status", {})}, _NOW)


@pytest.mark.parametrize("spec", [*yard_kinds()], ids=lambda spec: spec.resource.kind)
def test_the_empty_object_raises_nothing(spec: KindSpec) -> None:
    manifest: dict[str, Any] = {"metadata": {"name": "a", "uid": "u"}}
    spec.validate(manifest, None)
    spec.default(manifest)
    spec.prepare_create(manifest, CreateContext())
    spec.validate(manifest, None)
    assert len([column.cell(manifest, _NOW) for column in spec.columns]) == len(spec.columns)
