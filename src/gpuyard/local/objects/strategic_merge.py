"""Strategic merge patch: a merge patch that knows which lists are maps by a key.

Source: apimachinery `pkg/util/strategicpatch/patch.go`. Which lists merge, and by which key, is in
kinds/schema.json.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gpuyard import errors
from gpuyard.kube.objects import Manifest
from gpuyard.local.objects.kinds.schema import TypeInfo, types

_DIRECTIVE = "$patch"
_RETAIN_KEYS = "$retainKeys"
_DELETE_FROM = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"
_SHOWN_CHARACTERS = 1_000


@dataclass(frozen=True)
class _Field:
    """How a field merges: the type inside, and for lists that merge their key (empty for scalars).

    One that is replaced doesn't, as a whole.
    """

    type_: TypeInfo | None = None
    merges: bool = False
    key: str = ""
    is_replaced: bool = False


def strategic_merge(type_: str, manifest: Mapping[str, Any], patch: Mapping[str, Any]) -> Manifest:
    """What the patch makes of the object.

    Raises:
        BadRequest: a directive that is none, or a list element without its merge key.
    """
    return _merge_map(copy.deepcopy(dict(manifest)), copy.deepcopy(dict(patch)), types()[type_])


def _merge_map(original: Manifest, patch: Manifest, type_: TypeInfo | None) -> Manifest:
    directive = patch.pop(_DIRECTIVE, None)
    if directive == "replace":
        return patch
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise errors.BadRequest(f"unknown patch type {directive!r}: {_DIRECTIVE} is replace, merge or delete")
    _retain_keys(original, patch)
    for name in [name for name in patch if name.startswith(_ORDER)]:
        _merge_in_order(original, patch, name, type_)
    for name, value in patch.items():
        if name.startswith(_DELETE_FROM):
            field = name.removeprefix(_DELETE_FROM)
            if isinstance(original.get(field), list):
                gone = {_hashable(item) for item in _listed(value, name)}
                original[field] = [item for item in original[field] if _hashable(item) not in gone]
        elif value is None:
            original.pop(name, None)
        elif name in original:
            original[name] = _merge_value(original[name], value, _field(type_, name), name)
        else:
            original[name] = _plain(value)
    return original


def _merge_value(original: Any, value: Any, field: _Field, name: str) -> Any:
    if isinstance(original, dict) and isinstance(value, dict) and not field.is_replaced:
        return _merge_map(original, value, field.type_)
    if isinstance(original, list) and isinstance(value, list) and field.merges:
        return _merge_list(original, value, field, name)
    return _plain(value)


def _merge_list(original: list[Any], patch: list[Any], field: _Field, name: str) -> list[Any]:
    """The lists merged, in the patch's order where it has one and in the original's elsewhere."""
    if not field.key:
        merged = _unique([*original, *patch])
        return _ordered(merged, patch, original, "")
    if any(item.get(_DIRECTIVE) == "replace" for item in _elements(patch, "", name)):
        return [_plain(item) for item in patch if _DIRECTIVE not in item]
    kept: list[Manifest] = _elements(original, field.key, name)
    wanted: list[Manifest] = []
    gone: set[Any] = set()
    for item in patch:
        directive = item.get(_DIRECTIVE)
        if directive == "delete":
            gone.add(_hashable(_key(item, field.key, name)))
        elif directive is not None:
            raise errors.BadRequest(f"unknown patch type {directive!r} in {name}: use replace or delete")
        else:
            wanted.append(item)
    kept = [element for element in kept if _hashable(element[field.key]) not in gone]
    positions = _first_places(kept, field.key)
    for item in wanted:
        key = _hashable(_key(item, field.key, name))
        position = positions.setdefault(key, len(kept))
        if position == len(kept):
            kept.append(_plain(item))
        else:
            kept[position] = _merge_map(kept[position], item, field.type_)
    return _ordered(kept, wanted, original, field.key)


def _merge_in_order(original: Manifest, patch: Manifest, directive: str, type_: TypeInfo | None) -> None:
    """Merges the list that `$setElementOrder` speaks of, and puts its elements in that order."""
    name = directive.removeprefix(_ORDER)
    order = _listed(patch.pop(directive), directive)
    field = _field(type_, name)
    before = original.get(name)
    change = patch.pop(name, None) if isinstance(patch.get(name), list) else None
    if not isinstance(before, list) and change is None:
        return
    if field.key:
        order = _elements(order, field.key, directive)
    _check_order(directive, change or [], order, field.key)
    merged: list[Any]
    if change is None:
        merged = list(before or ())
    elif isinstance(before, list):
        merged = _merge_list(before, change, field, name) if field.merges else _plain(change)
    else:
        merged = _plain(change)
    if field.key:
        merged = _elements(merged, field.key, name)
    original[name] = _ordered(merged, order, before if isinstance(before, list) else [], field.key)


def _check_order(directive: str, patch: list[Any], order: list[Any], key: str) -> None:
    """That what the patch lists stands in the same order in the directive."""
    places = _first_places(order, key)
    kept = [item for item in patch if not (isinstance(item, dict) and _DIRECTIVE in item)]
    found = [places.get(_name(item, key), -1) for item in kept]
    if -1 in found or found != sorted(found):
        named = [item.get(key) if key and isinstance(item, dict) else item for item in kept]
        raise errors.BadRequest(
            f"the order in the patch, {_shown(named)}, doesn't match {directive}, "
            f"{_shown([item.get(key) if key and isinstance(item, dict) else item for item in order])}"
        )


def _ordered(merged: list[Any], patch: list[Any], server: list[Any], key: str) -> list[Any]:
    """What the patch names stands in its order, the rest in the server's, as late as it may."""
    names, places = _first_places(patch, key), _first_places(server, key)
    named = [(_name(item, key), item) for item in merged]
    left = deque(sorted((i for i in named if i[0] not in names), key=lambda i: places.get(i[0], len(server))))
    right = deque(sorted((i for i in named if i[0] in names), key=lambda i: names[i[0]]))
    result: list[Any] = []
    while left and right:
        a, b = places.get(left[0][0]), places.get(right[0][0])
        earlier = a is not None and b is not None and a < b
        result.append((left if earlier else right).popleft()[1])
    return result + [item for _, item in (*left, *right)]


def _retain_keys(original: Manifest, patch: Manifest) -> None:
    if _RETAIN_KEYS not in patch:
        return
    keys = _listed(patch.pop(_RETAIN_KEYS), _RETAIN_KEYS)
    extra = [
        name for name in patch if not name.startswith("$") and patch[name] is not None and name not in keys
    ]
    if extra:
        raise errors.BadRequest(f"{_RETAIN_KEYS} doesn't name {', '.join(extra)}, which the patch sets")
    for name in [name for name in original if name not in keys]:
        del original[name]


def _plain(value: Any) -> Any:
    """A value of the patch without nulls and directives, for where the original has none."""
    if isinstance(value, dict):
        if value.get(_DIRECTIVE) == "delete":
            return {}
        return {k: _plain(v) for k, v in value.items() if v is not None and not _is_directive(k)}
    if isinstance(value, list):
        return [_plain(item) for item in value if not _is_deletion(item)]
    return value


def _is_directive(name: str) -> bool:
    return name in (_DIRECTIVE, _RETAIN_KEYS) or name.startswith((_DELETE_FROM, _ORDER))


def _is_deletion(item: Any) -> bool:
    return isinstance(item, dict) and item.get(_DIRECTIVE) == "delete"


def _field(type_: TypeInfo | None, name: str) -> _Field:
    if type_ is None:
        return _Field()
    inner = types().get(type_.fields.get(name, "").lstrip("[").removeprefix("@"))
    strategy = (type_.patch or {}).get(name)
    key, _, more = (strategy or "").partition(",")
    return _Field(inner, strategy is not None, key, is_replaced=more == "replace")


def _elements(items: list[Any], key: str, name: str) -> list[Manifest]:
    for item in items:
        if not isinstance(item, dict):
            raise errors.BadRequest(f"the elements of {name} must be objects, found {item!r}")
        if key:
            _key(item, key, name)
    return list(items)


def _key(item: Manifest, key: str, name: str) -> Any:
    if key not in item:
        raise errors.BadRequest(f"{name}: {item!r} does not contain declared merge key: {key}")
    return item[key]


def _name(item: Any, key: str) -> Any:
    """What tells an element from the others of its list, so that it can be looked up."""
    return _hashable(item.get(key) if key and isinstance(item, dict) else item)


def _first_places(items: list[Any], key: str) -> dict[Any, int]:
    """Where each name stands first: a list of thousands is looked into as often."""
    places: dict[Any, int] = {}
    for position, item in enumerate(items):
        places.setdefault(_name(item, key), position)
    return places


def _hashable(value: Any) -> Any:
    """The value, or for lists and objects a text that is the same for equal ones."""
    if isinstance(value, (dict, list)):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return value


def _shown(names: list[Any]) -> str:
    text = repr(names)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _listed(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise errors.BadRequest(f"{name} must be a list")
    return value


def _unique(items: list[Any]) -> list[Any]:
    found: dict[Any, Any] = {}
    for item in items:
        found.setdefault(_hashable(item), item)
    return list(found.values())
