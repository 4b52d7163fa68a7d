"""The yard's bearer token, and the kubeconfig that carries it."""

from __future__ import annotations

import base64
import os
import re
import secrets
import stat
from pathlib import Path

import orjson

from gpuyard import errors
from gpuyard.local.settings import write_private

#: 256 bits.
_TOKEN_BYTES = 32
_TOKEN = re.compile(r"[0-9a-f]{64}")
_NAME = "gpuyard"


def load_or_make_token(file: Path) -> str:
    """The token in the file; a new one when the file is missing or holds none (kubeconfigs then change too).

    Raises:
        YardError: the file is a symbolic link, or others can read it.
        StoreError: it can't be read or written.
    """
    found = _read(file)
    if found is not None and _TOKEN.fullmatch(found):
        return found
    token = secrets.token_hex(_TOKEN_BYTES)
    write_private(file, token + "\n")
    return token


def write_kubeconfig(file: Path, *, port: int, ca_pem: bytes, token: str) -> None:
    """Writes a kubeconfig with one context, `gpuyard`, for the API on this port.

    Raises:
        StoreError: it can't be written; the old one is untouched.
    """
    server = {
        "server": f"https://127.0.0.1:{port}",
        "certificate-authority-data": base64.b64encode(ca_pem).decode(),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": _NAME, "cluster": server}],
        "users": [{"name": _NAME, "user": {"token": token}}],
        "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": _NAME, "namespace": "default"}}],
        "current-context": _NAME,
    }
    # JSON is YAML, and needs no YAML writer in the daemon.
    write_private(file, orjson.dumps(config, option=orjson.OPT_INDENT_2).decode() + "\n")


def _read(file: Path) -> str | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        if file.is_symlink():
            raise errors.YardError(
                f"the token file {file} is a symbolic link",
                remedy="remove it: a new token is made at `gpuyard up`",
            ) from error
        raise errors.StoreUnwritable(
            f"can't read the token in {file}: {error.strerror}", remedy="mend the file's permissions"
        ) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise errors.YardError(
            f"the token {file} is no file", remedy="remove it: a new token is made at `gpuyard up`"
        )
    with os.fdopen(descriptor, "rb") as stream:
        mode = os.fstat(stream.fileno()).st_mode
        text = stream.read(4096)
    if mode & 0o077:
        raise errors.YardError(
            f"others on this machine can read the token in {file} (mode {mode & 0o777:o})",
            remedy="remove the file: a new token is made at `gpuyard up`",
        )
    return text.decode("ascii", "replace").strip()
