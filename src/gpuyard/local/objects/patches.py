"""The three ways to write a patch, as pure functions: no argument is changed.

Sources: RFC 6902 (JSON patch), RFC 7386 (merge patch); strategic_merge.py has the third.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from gpuyard import errors
from gpuyard.client.api import PatchType
from gpuyard.kube.objects import Manifest, Resource
from gpuyard.local.objects.kinds.schema import type_name
from gpuyard.local.objects.strategic_merge import strategic_merge

_MAX_OPERATIONS = 10_000
#: Bytes that the copies of one JSON patch may add up to, as in Kubernetes: each may double the document.
_MAX_COPIED = 3 << 20
#: What Kubernetes answers with 422 for a patch that doesn't apply.
_REJECTED = "the server rejected our request due to an error in our request"


def apply_patch(
    resource: Resource, manifest: Mapping[str, Any], patch: Any, patch_type: PatchType
) -> Manifest:
    """The object that a patch makes of `manifest`, not yet decoded or validated.

    Raises:
        BadRequest: the patch isn't one of this type.
        Invalid: it is, and doesn't apply to this object (a failed `test`, a path that isn't there).
        TooLarge: more than 10,000 operations.
    """
    if patch_type is PatchType.JSON:
        result = json_patch(manifest, patch)
    elif not isinstance(patch, Mapping):
        raise errors.BadRequest(f"the patch must be a JSON object, not {_kind(patch)}")
    elif patch_type is PatchType.MERGE:
        result = merge_patch(manifest, patch)
    else:
        result = strategic_merge(type_name(resource), manifest, patch)
    if not isinstance(result, dict):
        raise errors.BadRequest(f"the patched object is {_kind(result)}, not a JSON object")
    return result


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: objects merge, null deletes, everything else replaces."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(document: Any, operations: Any) -> Any:
    """RFC 6902: operations one after another; the first that fails undoes all.

    Raises:
        BadRequest: not a list of operations.
        Invalid: an operation doesn't apply.
        TooLarge: more than 10,000 operations.
    """
    if not isinstance(operations, list):
        raise errors.BadRequest(f"a JSON patch must be a list of operations, not {_kind(operations)}")
    if len(operations) > _MAX_OPERATIONS:
        raise errors.TooLarge(
            f"The allowed maximum operations in a JSON patch is {_MAX_OPERATIONS}, got {len(operations)}"
        )
    result = copy.deepcopy(document)
    copied = 0
    for index, operation in enumerate(operations):
        if not isinstance(operation, Mapping) or not isinstance(operation.get("path"), str):
            raise errors.BadRequest(f"operation {index} of the JSON patch needs a text field path")
        if operation.get("op") == "copy":
            copied += _size(_source(result, operation, index))
            if copied > _MAX_COPIED:
                raise _rejected(
                    f"unable to complete the copy, the accumulated size increase of copy is {copied}, "
                    f"exceeding the limit {_MAX_COPIED}"
                )
        result = _apply(result, operation, index)
    return result


def _apply(document: Any, operation: Mapping[str, Any], index: int) -> Any:
    name, path = operation.get("op"), operation["path"]
    tokens = _tokens(path, index)
    match name:
        case "add" | "replace" | "test":
            if "value" not in operation:
                raise errors.BadRequest(f"operation {index} ({name} {path}) of the JSON patch needs a value")
            value = copy.deepcopy(operation["value"])
        case "move":
            value = _source(document, operation, index)
        case "copy":
            value = copy.deepcopy(_source(document, operation, index))
        case "remove":
            value = None
        case _:
            raise _rejected(f"operation {index} of the JSON patch has an unknown op: {name!r}")
    if name == "test":
        # JSON knows no 1 == True, Python does.
        if not _equal(_find(document, tokens, path), value):
            raise _rejected(f"testing value {path} failed: test failed")
        return document
    if name == "move":
        if tokens[: len(_tokens(operation["from"], index))] == _tokens(operation["from"], index) != tokens:
            raise _rejected(f"{operation['from']} can't be moved into itself ({path})")
        document = _changed(document, _tokens(operation["from"], index), operation["from"], "remove", None)
    return _changed(document, tokens, path, name, value)


def _source(document: Any, operation: Mapping[str, Any], index: int) -> Any:
    """What a move or copy takes."""
    source = operation.get("from")
    if not isinstance(source, str):
        raise errors.BadRequest(
            f"operation {index} ({operation['op']} {operation['path']}) of the JSON patch needs from"
        )
    return _find(document, _tokens(source, index), source)


def _size(value: Any) -> int:
    """About the bytes of a value as JSON."""
    if isinstance(value, str):
        return len(value) + 2
    if isinstance(value, dict):
        return 2 + sum(len(key) + 4 + _size(one) for key, one in value.items())
    if isinstance(value, list):
        return 2 + sum(1 + _size(one) for one in value)
    return 8


def _changed(document: Any, tokens: list[str], path: str, name: str, value: Any) -> Any:
    """`document` with one value added, replaced or removed, in place where it can be."""
    if not tokens:
        return None if name == "remove" else value
    *parents, last = tokens
    parent = _find(document, parents, path)
    if isinstance(parent, dict):
        if name in ("remove", "replace") and last not in parent:
            raise _rejected(f"{name} operation does not apply: doc is missing key: {path}")
        if name == "remove":
            del parent[last]
        else:
            parent[last] = value
    elif isinstance(parent, list):
        if name in ("remove", "replace"):
            position = _position(last, len(parent) - 1, path)
            parent[position : position + 1] = [] if name == "remove" else [value]
        else:
            parent.insert(len(parent) if last == "-" else _position(last, len(parent), path), value)
    else:
        raise _rejected(f"{name} operation does not apply: doc is missing path: {path}")
    return document


def _find(document: Any, tokens: list[str], path: str) -> Any:
    for token in tokens:
        if isinstance(document, dict) and token in document:
            document = document[token]
        elif isinstance(document, list):
            document = document[_position(token, len(document) - 1, path)]
        else:
            raise _rejected(f"doc is missing path: {path}")
    return document


def _position(token: str, highest: int, path: str) -> int:
    if not token.isascii() or not token.isdigit() or (token != "0" and token[0] == "0"):
        raise _rejected(f"{token!r} is not a list index: {path}")
    # Python reads no number of thousands of digits.
    if len(token) > 9 or int(token) > highest:
        raise _rejected(f"index {token} is out of range: {path}")
    return int(token)


def _tokens(path: str, index: int) -> list[str]:
    if not path:
        return []
    if not path.startswith("/"):
        raise errors.BadRequest(f"operation {index} of the JSON patch: path {path!r} must start with /")
    return [token.replace("~1", "/").replace("~0", "~") for token in path[1:].split("/")]


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)


def _rejected(why: str) -> errors.Invalid:
    return errors.Invalid(f"{_REJECTED}: {why}")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
    return "an object"
