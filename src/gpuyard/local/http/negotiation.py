"""What a client accepts: plain JSON, a Table, or metadata only.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources
and RFC 9110 section 12.5.1. Protobuf isn't served; clients that prefer it take JSON as their next choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

from gpuyard import errors


class Form(Enum):
    """How objects are written into an answer."""

    PLAIN = "plain"
    TABLE = "Table"
    METADATA = "PartialObjectMetadata"


@dataclass(frozen=True)
class Accepted:
    """One entry of an Accept header: media type in lower case, its parameters, its weight."""

    type: str
    parameters: dict[str, str] = field(default_factory=dict)
    quality: float = 1.0


#: Media ranges that JSON falls into.
JSON_RANGES = ("application/json", "application/*", "*/*")


@lru_cache(maxsize=64)
def parse_accept(header: str) -> tuple[Accepted, ...]:
    """The entries, best first; an absent header accepts anything."""
    entries = [_entry(part) for part in header.split(",") if part.strip()]
    wanted = [entry for entry in entries if entry.quality > 0]
    return tuple(sorted(wanted, key=lambda e: -e.quality)) if entries else (Accepted("*/*"),)


def choose_form(accepted: Iterable[Accepted]) -> Form:
    """The first form that the client accepts and that is served.

    Raises:
        NotAcceptable: none is.
    """
    for entry in accepted:
        if entry.type not in JSON_RANGES:
            continue
        wanted = entry.parameters.get("as")
        if wanted is None:
            return Form.PLAIN
        if entry.parameters.get("g") != "meta.k8s.io" or entry.parameters.get("v") not in ("v1", "v1beta1"):
            continue
        if wanted == "Table":
            return Form.TABLE
        if wanted in ("PartialObjectMetadata", "PartialObjectMetadataList"):
            return Form.METADATA
    raise not_acceptable()


def not_acceptable() -> errors.NotAcceptable:
    """The refusal of an Accept header that names nothing that is served."""
    return errors.NotAcceptable("only the following media types are accepted: application/json")


def _entry(text: str) -> Accepted:
    type_, *parameters = (part.strip() for part in text.split(";"))
    pairs = {
        name.strip().lower(): value.strip().strip('"')
        for name, _, value in (parameter.partition("=") for parameter in parameters)
    }
    try:
        quality = float(pairs.pop("q", "1"))
    except ValueError:
        quality = 0.0
    return Accepted(type_.lower(), pairs, quality)
