"""Object names: RFC 1123 labels and subdomains, and the random suffix that makes one unique."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z"
_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
#: Kubernetes' own alphabet: no vowels and no look-alikes, so that no word forms by accident.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def is_label(name: str) -> bool:
    """Whether `name` is an RFC 1123 label (namespaces, runs)."""
    return re.match(_LABEL, name) is not None


def is_subdomain(name: str) -> bool:
    """Whether `name` is an RFC 1123 subdomain (most objects)."""
    return len(name) <= 253 and re.match(_SUBDOMAIN, name) is not None


def random_suffix(rng: random.Random, length: int = 5) -> str:
    """What `generateName` appends."""
    return "".join(rng.choice(_ALPHABET) for _ in range(length))
