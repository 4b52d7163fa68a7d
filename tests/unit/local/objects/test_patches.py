import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.client.api import PatchType
from gpuyard.kube.objects import CONFIG_MAPS
from gpuyard.local.objects.patches import apply_patch, json_patch, merge_patch

_NAMES = st.text("ab/~0", max_size=2)
_LEAVES = st.one_of(st.booleans(), st.integers(-2, 2), st.text("xy", max_size=2))
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_NAMES, inner, max_size=3)),
    max_leaves=8,
)
_DOCUMENTS = st.dictionaries(_NAMES, _VALUES, max_size=3)
_ANYTHING = st.recursive(
    st.one_of(_LEAVES, st.none(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_NAMES, inner, max_size=3)),
    max_leaves=8,
)


def _merge_difference(old: Any, new: Any) -> Any:
    """The merge patch from one document to the other."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    patch = dict.fromkeys(old.keys() - new.keys())
    return patch | {
        key: _merge_difference(old.get(key), value)
        for key, value in new.items()
        if key not in old or _differs(old[key], value)
    }


def _differs(left: Any, right: Any) -> bool:
    return repr(left) != repr(right)


def _json_difference(old: Any, new: Any, path: str = "") -> list[dict[str, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[dict[str, Any]] = []
        for key in sorted(old.keys() | new.keys()):
            place = path + "/" + key.replace("~", "~0").replace("/", "~1")
            if key not in new:
                found.append({"op": "remove", "path": place})
            elif key not in old:
                found.append({"op": "add", "path": place, "value": new[key]})
            else:
                found += _json_difference(old[key], new[key], place)
        return found
    return [{"op": "replace", "path": path, "value": new}] if _differs(old, new) else []


@given(_DOCUMENTS, _DOCUMENTS)
def test_a_merge_patch_of_the_difference_makes_the_new_document(old: Any, new: Any) -> None:
    before = copy.deepcopy(old)
    assert merge_patch(old, _merge_difference(old, new)) == new
    assert old == before


@given(_DOCUMENTS, _ANYTHING)
def test_a_merge_patch_applied_twice_changes_nothing_more(document: Any, patch: Any) -> None:
    once = merge_patch(document, patch)
    assert merge_patch(once, patch) == once


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_examples_of_the_rfc(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


@given(_DOCUMENTS, _DOCUMENTS)
def test_a_json_patch_goes_there_and_back(old: Any, new: Any) -> None:
    before = copy.deepcopy(old)
    there = json_patch(old, _json_difference(old, new))
    assert there == new
    assert json_patch(there, _json_difference(new, old)) == before == old


@given(_DOCUMENTS, _ANYTHING)
def test_any_json_patch_applies_or_is_refused(document: Any, operations: Any) -> None:
    before = copy.deepcopy(document)
    with_operations = operations if isinstance(operations, list) else [operations]
    for op in ("add", "remove", "replace", "move", "copy", "test"):
        shaped = [
            {"op": op, "path": f"/{v}", "from": f"/{v}", "value": v, **(v if isinstance(v, dict) else {})}
            for v in with_operations
        ]
        for candidate in (operations, shaped):
            try:
                json_patch(document, candidate)
            except (errors.BadRequest, errors.Invalid) as refused:
                assert refused.message
    assert document == before


@pytest.mark.parametrize(
    ("document", "operations", "result"),
    [
        ({"a": [1, 2]}, [{"op": "add", "path": "/a/1", "value": 9}], {"a": [1, 9, 2]}),
        ({"a": [1, 2]}, [{"op": "add", "path": "/a/-", "value": 9}], {"a": [1, 2, 9]}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": 1}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a/b": {"~": 1}}, [{"op": "replace", "path": "/a~1b/~0", "value": 2}], {"a/b": {"~": 2}}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 1}}], {"b": 1}),
    ],
)
def test_json_patch_operations(document: Any, operations: Any, result: Any) -> None:
    assert json_patch(document, operations) == result


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"op": "test", "path": "/a", "value": True}, "testing value /a failed: test failed"),
        ({"op": "test", "path": "/x", "value": 1}, "doc is missing path: /x"),
        ({"op": "remove", "path": "/x"}, "doc is missing key: /x"),
        ({"op": "replace", "path": "/l/5", "value": 1}, "index 5 is out of range: /l/5"),
        ({"op": "add", "path": "/l/01", "value": 1}, "'01' is not a list index: /l/01"),
        ({"op": "add", "path": "/a/b", "value": 1}, "doc is missing path: /a/b"),
        ({"op": "move", "from": "/o", "path": "/o/p"}, "can't be moved into itself"),
    ],
)
def test_an_operation_that_does_not_apply_is_a_422(operation: Any, message: str) -> None:
    with pytest.raises(errors.Invalid, match="the server rejected our request") as caught:
        json_patch({"a": 1, "l": [1], "o": {}}, [operation])
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("patch_type", "patch"),
    [
        (PatchType.JSON, {"a": 1}),
        (PatchType.JSON, [{"op": "add", "value": 1}]),
        (PatchType.JSON, [{"op": "add", "path": "a", "value": 1}]),
        (PatchType.JSON, [{"op": "add", "path": "/a"}]),
        (PatchType.JSON, [{"op": "remove", "path": ""}]),
        (PatchType.MERGE, []),
        (PatchType.MERGE, None),
        (PatchType.STRATEGIC, "text"),
    ],
)
def test_what_is_no_patch_is_a_400(patch_type: PatchType, patch: Any) -> None:
    with pytest.raises(errors.BadRequest):
        apply_patch(CONFIG_MAPS, {"a": 1}, patch, patch_type)


def test_too_many_operations_are_refused() -> None:
    with pytest.raises(errors.TooLarge, match="got 10001"):
        json_patch({}, [{"op": "add", "path": "/a", "value": 1}] * 10_001)


def test_copies_that_double_the_document_again_and_again_are_refused() -> None:
    copies = [{"op": "copy", "from": "/a", "path": f"/a/{n}"} for n in range(200)]
    with pytest.raises(errors.Invalid, match="accumulated size"):
        json_patch({"a": {"b": "x" * 1000}}, copies)


def test_an_index_of_thousands_of_digits_is_out_of_range() -> None:
    with pytest.raises(errors.Invalid, match="out of range"):
        json_patch({"a": [1]}, [{"op": "remove", "path": "/a/" + "9" * 5000}])


def test_each_patch_type_leaves_its_arguments_alone() -> None:
    document = {"metadata": {"labels": {"a": "1"}, "finalizers": ["x"]}}
    patch = {"metadata": {"labels": {"b": "2"}, "finalizers": ["y"]}}
    before = copy.deepcopy((document, patch))
    merged = apply_patch(CONFIG_MAPS, document, patch, PatchType.MERGE)
    strategic = apply_patch(CONFIG_MAPS, document, patch, PatchType.STRATEGIC)
    assert merged["metadata"]["finalizers"] == ["y"]
    assert sorted(strategic["metadata"]["finalizers"]) == ["x", "y"]
    assert (document, patch) == before
