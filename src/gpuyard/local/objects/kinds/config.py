"""ConfigMaps, Secrets and ServiceAccounts.

Source: kubernetes `pkg/apis/core/validation` (ValidateConfigMap, ValidateSecret).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpuyard.kube.objects import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS, Manifest
from gpuyard.local.objects.kinds.cells import AGE, NAME
from gpuyard.local.objects.kinds.fields import check_immutable, forbidden, invalid, required, same, too_long
from gpuyard.local.objects.kinds.kind import Column, FieldError, KindSpec

_MAX_BYTES = 1024 * 1024
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
    "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
#: Keys that a typed secret must have.
_TYPED = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def _validate_config_map(config_map: Manifest, old: Manifest | None) -> list[FieldError]:
    data, binary = config_map.get("data") or {}, config_map.get("binaryData") or {}
    found: list[FieldError] = []
    for key in data:
        found += _validate_key(f"data[{key}]", key)
        if key in binary:
            found.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
    for key in binary:
        found += _validate_key(f"binaryData[{key}]", key)
    if sum(len(text.encode()) for text in data.values()) + _bytes_of(binary) > _MAX_BYTES:
        found.append(too_long("[]", _MAX_BYTES))
    return found + _validate_frozen(config_map, old, "data", "binaryData")


def _default_secret(secret: Manifest) -> None:
    """`stringData` is written only: it becomes `data`."""
    secret.setdefault("type", "Opaque")
    for key, text in (secret.pop("stringData", None) or {}).items():
        secret.setdefault("data", {})[key] = base64.b64encode(text.encode()).decode()


def _validate_secret(secret: Manifest, old: Manifest | None) -> list[FieldError]:
    data = secret.get("data") or {}
    found: list[FieldError] = []
    for key in data:
        found += _validate_key(f"data[{key}]", key)
    if _bytes_of(data) > _MAX_BYTES:
        found.append(too_long("data", _MAX_BYTES))
    found += _validate_typed(secret.get("type", ""), data)
    if old is not None:
        found += check_immutable("", secret, old, "type")
    return found + _validate_frozen(secret, old, "data", "stringData")


def _validate_typed(type_: str, data: Mapping[str, str]) -> list[FieldError]:
    """What a secret of a type that Kubernetes knows must have in it."""
    if type_ == "kubernetes.io/basic-auth" and not data.keys() & {"username", "password"}:
        return [required("data[username]"), required("data[password]")]
    found = [required(f"data[{key}]") for key in _TYPED.get(type_, ()) if key not in data]
    for key in _TYPED.get(type_, ()) if "docker" in type_ else ():
        try:
            json.loads(base64.b64decode(data.get(key, "e30=")))
        except ValueError as error:
            found.append(invalid(f"data[{key}]", "<secret contents redacted>", str(error)))
    return found


def _validate_frozen(new: Manifest, old: Manifest | None, *fields: str) -> list[FieldError]:
    """Nothing that was marked immutable changes, the mark included."""
    if old is None or not old.get("immutable"):
        return []
    detail = "field is immutable when `immutable` is set"
    changed = [field for field in fields if not same(new.get(field), old.get(field))]
    if not new.get("immutable"):
        changed.insert(0, "immutable")
    return [forbidden(field, detail) for field in changed]


def _validate_key(path: str, key: str) -> list[FieldError]:
    if len(key) > 253:
        return [invalid(path, key, "must be no more than 253 characters")]
    if key in (".", "..") or key.startswith(".."):
        return [
            invalid(path, key, f"must not be '{key}'" if key in (".", "..") else "must not start with '..'")
        ]
    return [] if _KEY.fullmatch(key) else [invalid(path, key, _KEY_RULE)]


def _bytes_of(data: Mapping[str, str]) -> int:
    """Decoded size of base64 texts."""
    return sum(len(text) * 3 // 4 - text[-2:].count("=") for text in data.values())


def _count(*fields: str) -> Column:
    def cell(manifest: Manifest, _now: datetime) -> Any:
        return sum(len(manifest.get(field) or ()) for field in fields)

    return Column(
        fields[0].capitalize(),
        cell,
    )


CONFIG_MAP = KindSpec(
    resource=CONFIG_MAPS,
    short_names=("cm",),
    validate=_validate_config_map,
    columns=(NAME, _count("data", "binaryData"), AGE),
)
SECRET = KindSpec(
    resource=SECRETS,
    default=_default_secret,
    validate=_validate_secret,
    columns=(NAME, Column("Type", lambda s, _now: s.get("type", "")), _count("data"), AGE),
    selectable_fields=frozenset(("type",)),
)
SERVICE_ACCOUNT = KindSpec(
    resource=SERVICE_ACCOUNTS,
    needs_version=True,
    short_names=("sa",),
    columns=(NAME, AGE),
)
