"""Keyword arguments of `run` as what they stand for: keys of a spec file, laid over it like flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpuyard import errors
from gpuyard.workloads.spec.overrides import Flag
from gpuyard.workloads.spec.text_tree import Node, Path

#: Keys that stand under `resources` in a file and alone among arguments, as among flags.
_RESOURCES = frozenset({"gpus", "cpus", "memory", "shm"})


def flags_of(**keys: Any) -> list[Flag]:
    """The arguments that were given, each laid over the key of its name; an entry of `env` over that entry.

    Raises:
        UsageError: a value that no key could have, such as a function.
    """
    flags = []
    for key, value in keys.items():
        path: Path = ("resources", key) if key in _RESOURCES else (key,)
        if key == "env" and isinstance(value, Mapping):
            flags += [
                Flag(f"env[{name!r}]", (*path, str(name)), _node("env", v)) for name, v in value.items()
            ]
        elif value is not None:
            flags.append(Flag(f"{key}=", path, _node(key, value)))
    return flags


def _node(key: str, value: Any) -> Node:
    """The value as a spec file's tree has it: every scalar is text."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case Mapping():
            return {str(name): _node(key, inner) for name, inner in value.items()}
        case Sequence() if not isinstance(value, bytes):
            return [_node(key, inner) for inner in value]
    raise errors.UsageError(
        f"{key}= can't be a {type(value).__name__}", remedy="give text, numbers, lists or dicts of them"
    )
