"""Whether what has a secret's form is one: what documents and tests write in its place isn't."""

from __future__ import annotations

import base64
import binascii
import re
import zlib

# Expressions are compiled when they are used: few texts come so far, and each costs start-up time.
_MADE_UP_WORDS = (
    rb"(?is)example|placeholder|your|change.?me|dummy|fake|redact|sample|test|secret|token|passw|insert|replace|"
    rb"abcdef|fedcba|uvwxyz|12345678|87654321|deadbeef|(.)\1\1\1\1"
)
_ALPHABET62 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: Of the emulators of Azure's storage and Cosmos DB, which are the same everywhere.
_EMULATORS = (b"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUz", b"C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2")


def _is_made_up(value: bytes) -> bool:
    """Whether a person wrote it, not a generator: words, runs, few different characters."""
    return bool(re.search(_MADE_UP_WORDS, value)) or len(set(value)) < min(8, len(value) // 2)


def is_random(match: re.Match[bytes]) -> bool:
    """Whether a generator made it."""
    value = match["secret"]
    return not _is_made_up(value) and bool(re.search(rb"\d", value) or re.search(rb"[a-z][A-Z]", value))


def has_checksum(match: re.Match[bytes]) -> bool:
    """Whether it ends in the CRC-32 of what is before, as GitHub's and npm's tokens do."""
    value, expected, checksum = match["secret"], zlib.crc32(match["secret"][:-6]), b""
    for _ in range(6):
        expected, digit = divmod(expected, 62)
        checksum = _ALPHABET62[digit : digit + 1] + checksum
    return value.endswith(checksum)


def is_aws_pair(match: re.Match[bytes]) -> bool:
    """Whether the secret half of an access key is near."""
    if match["id"].endswith(b"EXAMPLE") or _is_made_up(match["id"]):
        return False
    near = match.string[max(0, match.start() - 400) : match.end() + 400]
    return any(
        len(set(secret)) > 15
        and not _is_made_up(secret)
        and re.search(rb"[a-z]", secret)
        and re.search(rb"\d", secret)
        and re.search(rb"[A-Z]", secret)
        for secret in re.findall(rb"(?<![A-Za-z0-9/+=_-])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=_-])", near)
    )


def _line_of(match: re.Match[bytes]) -> bytes:
    text = match.string
    end = text.find(b"\n", match.end())
    return text[text.rfind(b"\n", 0, match.start()) + 1 : end if end >= 0 else len(text)]


def is_signature(match: re.Match[bytes]) -> bool:
    """Whether it is in a URL with the version that each of Azure's signatures is of."""
    return b"sv=20" in _line_of(match) and is_random(match)


def is_no_emulators(match: re.Match[bytes]) -> bool:
    """Whether it isn't one that everybody has."""
    return not match["secret"].startswith(_EMULATORS) and not _is_made_up(match["secret"])


def is_in_kubeconfig(match: re.Match[bytes]) -> bool:
    """Whether the text is a kubeconfig."""
    return b"clusters:" in match.string and b"users:" in match.string and not _is_made_up(match["secret"])


#: Users and passwords that documents write.
_EXAMPLE_WORDS = (
    rb"(?i)(?:my|the|some|your|db|test)?[-_.]?"
    rb"(?:user(?:name)?|pass|pw|pwd|admin|root|guest|postgres|mysql|redis|rabbitmq|me|foo|bar|baz|spam|eggs|"
    rb"bob|alice|joe|john|jane|hunter2|key|login|api|name|scott|tiger|default|none|null|id)"
    rb"\d{0,3}"
)
_LOCAL_HOST = (
    rb"(?i)localhost|127\.|0\.0\.0\.0|10\.0\.0\.|192\.168\.|\[|1\.2\.3\.4|"
    rb"(?:.*\.)?example(?:\.|$)|.*\.(?:test|invalid|local)$|[^.]+$"
)


def is_password(match: re.Match[bytes]) -> bool:
    """Whether it can be one that somebody uses."""
    password = match["secret"].strip(b"\"'")
    return _is_used(password) and not re.search(rb"[${}<>*\\]", password)


def _is_used(password: bytes) -> bool:
    if _is_made_up(password) or re.fullmatch(_EXAMPLE_WORDS, password):
        return False
    return len(password) > 5 and _kinds(password) > 1


def is_docker_auth(match: re.Match[bytes]) -> bool:
    """Whether it is a user and a password as Docker keeps them."""
    try:
        user, _, password = base64.b64decode(match["secret"], validate=True).partition(b":")
    except binascii.Error:
        return False
    return bool(user) and user.isascii() and _is_used(password)


def _kinds(password: bytes) -> int:
    """How many of small letters, large ones, digits and others it has."""
    return sum(bool(re.search(kind, password)) for kind in (rb"[a-z]", rb"[A-Z]", rb"\d", rb"[^A-Za-z0-9]"))


def is_real_login(match: re.Match[bytes]) -> bool:
    """Whether user, password and host aren't what documents and tests write."""
    user, password = match["user"], match["secret"]
    if not _is_used(password) or password == user or re.search(rb"%(?![0-9A-Fa-f]{2})", user + password):
        return False
    return len(password) >= 12 or not (
        re.match(_LOCAL_HOST, match["host"]) or re.fullmatch(_EXAMPLE_WORDS, user)
    )
