"""Where an API is and how to prove who we are, from a kubeconfig.

Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/. Merging: the files of KUBECONFIG
in order, the first that defines a name or the current context wins.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.advice import advice
from gpuyard.client.connection.credentials import Origin, Proof
from gpuyard.client.connection.exec_plugin import exec_token


@dataclass(frozen=True)
class Connection:
    """One API's address and credentials; `repr` leaves the headers out, which may hold a token."""

    server: str
    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    namespace: str = "default"
    proxy: str | None = None
    #: The name that its certificate has to be for, where that isn't the server's.
    tls_server_name: str | None = None
    #: Where all this was written, for messages; None for a pod's own.
    origin: Origin | None = None


def kubeconfig_files(environ: Mapping[str, str]) -> list[Path]:
    """The files that `KUBECONFIG` names, else `~/.kube/config`."""
    named = [Path(part) for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return named or [Path(environ.get("HOME") or "~").expanduser() / ".kube" / "config"]


def load_connection(files: Sequence[Path], context: str) -> Connection:
    """The connection that `context` names.

    Raises:
        UsageError: no such context or a file that is no kubeconfig; the message names the file and field.
    """
    merged, file, raw = _context(files, context)
    cluster = _named(merged, "clusters", raw.get("cluster", ""), context)
    user = _named(merged, "users", raw.get("user", ""), context) if raw.get("user") else (file, {})
    return Connection(
        server=_text(cluster[1], "server", cluster[0]),
        tls=_tls(cluster, user),
        headers=_headers(str(raw.get("user") or ""), user),
        namespace=_namespace(raw),
        proxy=str(cluster[1].get("proxy-url") or "") or None,
        tls_server_name=cluster[1].get("tls-server-name") or None,
        origin=_origin(raw, cluster, user),
    )


def context_namespace(files: Sequence[Path], context: str) -> str:
    """The namespace of a context; no credential plugin is run for it.

    Raises:
        UsageError: as `load_connection`.
    """
    _, _, raw = _context(files, context)
    return _namespace(raw)


def context_names(files: Sequence[Path]) -> list[str]:
    """The contexts of a kubeconfig, sorted.

    Raises:
        UsageError: a file is no kubeconfig.
    """
    return sorted(_merge([(file, _read(file)) for file in files if file.exists()])["contexts"])


def _context(files: Sequence[Path], context: str) -> tuple[dict[str, _Section], Path, Mapping[str, Any]]:
    """The kubeconfig as a whole, and the context's own file and content."""
    merged = _merge([(file, _read(file)) for file in files if file.exists()])
    entry = merged["contexts"].get(context)
    if entry is None:
        raise _no_context(files, context, sorted(merged["contexts"]))
    return merged, *entry


def _namespace(raw: Mapping[str, Any]) -> str:
    return raw.get("namespace") or "default"


def _no_context(files: Sequence[Path], context: str, known: Sequence[str]) -> errors.UsageError:
    if not any(file.exists() for file in files):
        return errors.UsageError(
            f"there is no kubeconfig, and so no context {context!r}: {_names(files)} isn't there",
            remedy=advice("KUBECONFIG says which files are read; --context yard is this machine's yard"),
        )
    import difflib

    near = difflib.get_close_matches(context, known, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return errors.UsageError(
        f"no context {context!r} in {_names(files)}",
        remedy=f"{meant}contexts there: {', '.join(known) or 'none'}; KUBECONFIG says which files are read",
    )


def _origin(
    context: Mapping[str, Any], cluster: tuple[Path, Mapping[str, Any]], user: tuple[Path, Mapping[str, Any]]
) -> Origin:
    raw = user[1]
    certificate = _material(user, "client-certificate") or b""
    if raw.get("token") or raw.get("tokenFile"):
        proof = Proof.TOKEN
    elif raw.get("exec"):
        proof = Proof.PLUGIN
    elif raw.get("username"):
        proof = Proof.PASSWORD
    else:
        proof = Proof.CERTIFICATE if certificate else Proof.NONE
    return Origin(
        cluster=str(context.get("cluster", "")),
        cluster_file=cluster[0],
        user=str(context.get("user") or ""),
        user_file=user[0],
        proof=proof,
        certificate=certificate,
    )


_Section = dict[str, tuple[Path, Mapping[str, Any]]]


def _merge(documents: Sequence[tuple[Path, Mapping[str, Any]]]) -> dict[str, _Section]:
    merged: dict[str, _Section] = {"clusters": {}, "users": {}, "contexts": {}}
    for file, document in documents:
        for section, singular in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
            entries = document.get(section) or ()
            if not isinstance(entries, list | tuple):
                raise errors.UsageError(f"{file}: {section} is not a list")
            for entry in entries:
                if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
                    raise errors.UsageError(f"{file}: an entry of {section} has no name")
                value = entry.get(singular) or {}
                if not isinstance(value, Mapping):
                    raise errors.UsageError(f"{file}: {singular} {entry['name']!r} is not a mapping")
                merged[section].setdefault(entry["name"], (file, value))
    return merged


def _read(file: Path) -> Mapping[str, Any]:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UsageError(f"can't read the kubeconfig {file}: {error}") from error
    return _parse(file, text)


@lru_cache(maxsize=8)
def _parse(file: Path, text: str) -> Mapping[str, Any]:
    """Once a command, which may ask for its namespace before it connects."""
    with suppress(ValueError, RecursionError):
        # JSON is YAML, and what reads YAML takes a while to load.
        if isinstance(document := json.loads(text), Mapping):
            return document
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise errors.UsageError(f"the kubeconfig {file} is not YAML: {error}") from error
    except RecursionError:
        raise errors.UsageError(
            f"{file} is not a kubeconfig: it is nested too deeply",
            remedy="KUBECONFIG says which files are read",
        ) from None
    if not isinstance(document, Mapping):
        raise errors.UsageError(f"{file} is not a kubeconfig", remedy="KUBECONFIG says which files are read")
    return document


def _named(
    merged: dict[str, _Section], section: str, name: str, context: str
) -> tuple[Path, Mapping[str, Any]]:
    entry = merged[section].get(name)
    if entry is None:
        raise errors.UsageError(
            f"context {context!r} names {name!r}, which is not among the {section} of the kubeconfig"
        )
    return entry


def _text(raw: Mapping[str, Any], key: str, file: Path) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value:
        raise errors.UsageError(f"{file}: {key} is missing")
    return value


def _tls(
    cluster: tuple[Path, Mapping[str, Any]], user: tuple[Path, Mapping[str, Any]]
) -> ssl.SSLContext | None:
    if not str(cluster[1].get("server", "")).startswith("https://"):
        return None
    try:
        authority = _material(cluster, "certificate-authority")
        # Given one, the machine's own authorities aren't trusted, nor read.
        context = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if cluster[1].get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        certificate, key = _material(user, "client-certificate"), _material(user, "client-key")
        if bool(certificate) != bool(key):
            raise errors.UsageError(
                f"{user[0]}: a client certificate and its key belong together; one is missing"
            )
        if certificate and key:
            _load_client_certificate(context, certificate, key)
    except (ssl.SSLError, ValueError) as error:
        raise errors.UsageError(f"{cluster[0]}: the certificates can't be used: {error}") from error
    return context


def _material(entry: tuple[Path, Mapping[str, Any]], key: str) -> bytes | None:
    """What `KEY-data` holds (base64) or the file that `KEY` names, relative to the kubeconfig."""
    file, raw = entry
    if data := raw.get(f"{key}-data"):
        try:
            # Tools wrap long values, and Go's decoder looks past the line breaks.
            return base64.b64decode("".join(str(data).split()), validate=True)
        except binascii.Error as error:
            raise errors.UsageError(f"{file}: {key}-data is not base64") from error
    if path := raw.get(key):
        try:
            return (file.parent / str(path)).read_bytes()
        except (OSError, ValueError) as error:
            raise errors.UsageError(f"{file}: {key} can't be read: {error}") from error
    return None


def _load_client_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL reads keys from files only: an anonymous one never touches a disk."""
    descriptor = os.memfd_create("client-certificate")
    try:
        os.write(descriptor, certificate + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _headers(name: str, user: tuple[Path, Mapping[str, Any]]) -> dict[str, str]:
    file, raw = user
    token = raw.get("token")
    if not token and (path := raw.get("tokenFile")):
        try:
            token = (file.parent / str(path)).read_text().strip()
        except (OSError, ValueError) as error:
            raise errors.UsageError(f"{file}: tokenFile can't be read: {error}") from error
    if not token and (plugin := raw.get("exec")):
        if not isinstance(plugin, Mapping):
            raise errors.UsageError(f"{file}: exec is not a mapping")
        token = exec_token(plugin, file, name)
    if token:
        return {"Authorization": f"Bearer {token}"}
    if raw.get("username"):
        pair = f"{raw['username']}:{raw.get('password') or ''}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    if raw.get("auth-provider"):
        raise errors.UsageError(
            f"{file}: the user {name!r} has an auth-provider, which isn't understood",
            remedy="get a new kubeconfig from whoever runs the cluster: those of today have an exec plugin",
        )
    return {}


def _names(files: Sequence[Path]) -> str:
    return ", ".join(str(file) for file in files)
