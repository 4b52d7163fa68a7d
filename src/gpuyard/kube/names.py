"""Object names: RFC 1123 labels and subdomains, and the random suffix that makes one unique."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

#: Of the value of a label.
_MAX_LABEL_LENGTH = 63
_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z"
_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
_EXTENDED_RESOURCE = (
    r"(?!requests\.)(?!.*kubernetes\.io/)(?=.{1,253}/)"
    r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
)
#: Kubernetes' own alphabet: no vowels and no look-alikes, so that no word forms by accident.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def is_label(name: str) -> bool:
    """Whether `name` is an RFC 1123 label (namespaces, runs)."""
    return re.match(_LABEL, name) is not None


def is_extended_resource(name: str) -> bool:
    """Whether a device plugin may serve a resource of this name."""
    return re.fullmatch(_EXTENDED_RESOURCE, name) is not None


def is_subdomain(name: str) -> bool:
    """Whether `name` is an RFC 1123 subdomain (most objects)."""
    return len(name) <= 253 and re.match(_SUBDOMAIN, name) is not None


def random_suffix(rng: random.Random, length: int = 5) -> str:
    """What `generateName` appends."""
    return "".join(rng.choice(_ALPHABET) for _ in range(length))


def label_value(text: str, suffix: str = "") -> str:
    """A text as the value of a label: what isn't allowed becomes a hyphen, at most 63 characters.

    Args:
        text: is cut where it is too long.
        suffix: is kept.
    """
    start, end = (re.sub(r"[^A-Za-z0-9_.-]+", "-", part) for part in (text, suffix))
    return (start[: _MAX_LABEL_LENGTH - len(end)] + end).strip("-_.")
