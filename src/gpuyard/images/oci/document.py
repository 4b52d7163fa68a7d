"""JSON of image documents: read with errors that say what is wrong, written in one canonical form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import orjson

from gpuyard import errors


@contextmanager
def damage_named(what: str) -> Iterator[None]:
    """Adds to ImageDamaged what was read, which those who parse bytes don't know."""
    try:
        yield
    except errors.ImageDamaged as error:
        remedy = error.remedy or "push or copy the image again"
        raise errors.ImageDamaged(f"{what}: {error.message}", remedy=remedy) from error


def parse_object(content: bytes, what: str) -> dict[str, Any]:
    """A JSON object; raises ImageDamaged."""
    try:
        raw = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise errors.ImageDamaged(f"{what} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise errors.ImageDamaged(f"{what} is not a JSON object")
    return raw


def texts_of(raw: Any, name: str) -> tuple[str, ...]:
    """A list of strings, null or nothing; raises ImageDamaged."""
    if raw and not (isinstance(raw, list) and all(isinstance(text, str) for text in raw)):
        raise errors.ImageDamaged(f"{name} of an image config is not a list of strings")
    return tuple(raw or ())


def strings_of(raw: Any, name: str) -> dict[str, str]:
    """A mapping of strings, null or nothing; raises ImageDamaged."""
    if raw and not (isinstance(raw, dict) and all(isinstance(text, str) for text in raw.values())):
        raise errors.ImageDamaged(f"{name} of an image are not a mapping of strings")
    return dict(raw or {})


def canonical(raw: Mapping[str, Any]) -> bytes:
    """Keys sorted, no spaces: equal documents have equal digests."""
    return orjson.dumps(raw, option=orjson.OPT_SORT_KEYS)


def present(**fields: str | bool | Sequence[Any] | Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields that aren't empty."""
    return {name: value for name, value in fields.items() if value}
