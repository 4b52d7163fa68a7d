"""Credential plugins of a kubeconfig: a program that gives a token.

Source: https://kubernetes.io/docs/reference/config-api/client-authentication.v1/.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpuyard import errors

_TIMEOUT_S = 60
_LONGEST_WORDS = 300


def exec_token(plugin: Mapping[str, Any], file: Path, user: str) -> str:
    """Runs the plugin and takes its token.

    Args:
        plugin: the user's `exec`.
        file: the kubeconfig; a command with a slash is looked up from its folder.
        user: whose it is.

    Raises:
        UsageError: it isn't there, fails, or gives no token; the remedy has its own words.
    """
    command = str(plugin.get("command", ""))
    whose = f"{file}: the credential plugin {command!r} of user {user!r}"
    hint = str(plugin.get("installHint", "")).strip()
    program = str(file.parent / command) if "/" in command else command
    try:
        done = subprocess.run(
            [program, *(str(arg) for arg in plugin.get("args") or ())],
            env=_environ(plugin, file),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise errors.UsageError(
            f"{whose} isn't installed", remedy=hint or f"install it, and put it on PATH ({command})"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise errors.UsageError(
            f"{whose} gave no answer within {_TIMEOUT_S} s",
            remedy="it may want to ask something: log in with its own program first",
        ) from error
    except (OSError, ValueError) as error:
        raise errors.UsageError(f"{whose} can't be started: {error}", remedy=hint) from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()[-_LONGEST_WORDS:]
        raise errors.UsageError(
            f"{whose} failed with exit code {done.returncode}",
            remedy=words or hint or "run it by hand to see why",
        )
    return _token(done.stdout, whose)


def _environ(plugin: Mapping[str, Any], file: Path) -> dict[str, str]:
    """The command's own, with what the kubeconfig adds and with what the plugin is asked for."""
    info = {
        "apiVersion": plugin.get("apiVersion", "client.authentication.k8s.io/v1"),
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    try:
        added = {str(entry["name"]): str(entry["value"]) for entry in plugin.get("env") or ()}
    except (TypeError, KeyError) as error:
        raise errors.UsageError(f"{file}: an entry of exec.env lacks its name or value") from error
    return dict(os.environ) | added | {"KUBERNETES_EXEC_INFO": json.dumps(info)}


def _token(out: bytes, whose: str) -> str:
    try:
        status = json.loads(out)["status"] or {}
        token, certificate = status.get("token"), status.get("clientCertificateData")
    except (ValueError, KeyError, TypeError, AttributeError):
        # The cause is dropped: it may quote the token.
        raise errors.UsageError(
            f"{whose} gave no ExecCredential with a status", remedy="run it by hand: is it the right program?"
        ) from None
    if token:
        return str(token)
    what = "a client certificate, which gpuyard can't use yet, and no token" if certificate else "no token"
    raise errors.UsageError(f"{whose} gave {what}")
