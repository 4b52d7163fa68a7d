"""pydantic's findings about a spec in the words of its user."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gpuyard.workloads.spec_model import SpecModel

#: Words of other tools that don't look like ours.
_ALSO_KNOWN_AS = {
    "command": "run", "cmd": "run", "args": "run", "script": "run", "entrypoint": "run",
    "environment": "env", "accelerators": "resources.gpus", "gpu": "resources.gpus",
    "nvidia.com/gpu": "resources.gpus", "mem": "resources.memory", "backoffLimit": "retries",
    "priorityClassName": "priority",
}  # fmt: skip


def describe(error: ErrorDetails) -> str:
    """What is wrong, and what would be right."""
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return _unknown_key(error["loc"])
        case "missing":
            if error["loc"] == ("run",):
                return "there is nothing to run; write a command such as `python train.py`"
            return "this key is needed"
        case "value_error":
            return str(context["error"])
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return f"must be a whole number, not {_seen(error['input'])}"
        case "string_type":
            return f"must be text, not {_seen(error['input'])}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"must be a mapping of keys to values, not {_seen(error['input'])}"
        case "list_type":
            return f"must be a list, not {_seen(error['input'])}"
        case "literal_error":
            return f"must be {context['expected']}, not {_seen(error['input'])}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
    return str(error["msg"])


def _seen(value: object) -> str:
    if value is None:
        return "nothing"
    return "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)


def _unknown_key(loc: tuple[str | int, ...]) -> str:
    key = str(loc[-1])
    siblings = _keys_at(SpecModel, loc[:-1])
    near = difflib.get_close_matches(key, siblings, n=1, cutoff=0.6)
    if near:
        return f"unknown key; did you mean {near[0]!r}?"
    elsewhere = {name: f"resources.{name}" for name in _keys_at(SpecModel, ("resources",))} | _ALSO_KNOWN_AS
    if len(loc) == 1 and key in elsewhere:
        return f"unknown key; did you mean {elsewhere[key]!r}?"
    if key in _keys_at(SpecModel, ()):
        return f"unknown key here; {key!r} belongs at the top level"
    return f"unknown key; the keys here are {', '.join(siblings)}"


def _keys_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            model = next(_models_in(model.model_fields[part].annotation), model)
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)
