"""Programs that keep credentials: `docker-credential-NAME get`.

Source: docker/docker-credential-helpers, README "Development". They are started without a shell. What one
answers is a secret and stays out of messages; why it failed is told as it says it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import orjson

from gpuyard import errors
from gpuyard.images.subprocesses import outputs

_TIMEOUT_S = 30.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MOST_WORDS = 300


async def ask_helper(
    helper: str, server: str, file: Path, environ: Mapping[str, str]
) -> tuple[str, str] | None:
    """User and secret as a helper has them; None when it knows none.

    Args:
        helper: its name without the prefix.
        server: as Docker calls the registry.
        file: that names the helper, for messages.
        environ: of the helper.

    Raises:
        ImageError: it doesn't work.
    """
    program = f"docker-credential-{helper}"
    if not _NAME.fullmatch(helper):
        raise errors.ImageError(f"{file} names a credential helper {helper!r}, which can't be a program")
    code, out, err = await _run(
        program, server, environ, f"install or mend {program}, or take it out of {file}"
    )
    if code == 0:
        return _answer(program, out)
    if b"credentials not found" in out:
        return None
    words = _words(out) or _words(err)
    raise errors.ImageError(
        f"the credential helper {program} failed for {server} with exit code {code}"
        + (f": {words}" if words else ""),
        remedy=f"run it by hand: echo {server} | {program} get",
    )


async def _run(
    program: str, server: str, environ: Mapping[str, str], remedy: str
) -> tuple[int | None, bytes, bytes]:
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(environ),
            start_new_session=True,
        )
    except OSError as error:
        raise errors.ImageError(
            f"the credential helper {program} can't be started: {error.strerror}", remedy=remedy
        ) from error
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            out, err = await outputs(process, server.encode())
    except TimeoutError as error:
        raise errors.ImageError(
            f"the credential helper {program} gave no answer within {_TIMEOUT_S:.0f} s", remedy=remedy
        ) from error
    return process.returncode, out, err


def _answer(program: str, out: bytes) -> tuple[str, str] | None:
    try:
        answer = orjson.loads(out)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise errors.ImageError(
            f"the credential helper {program} gave an answer that can't be read"
        ) from None
    return (user, secret) if secret else None


def _words(said: bytes) -> str:
    """Why it failed, in a line; nothing of what looks like an answer, for it holds the secret."""
    if b"Secret" in said:
        return ""
    text = "".join(letter if letter.isprintable() else " " for letter in said.decode("utf-8", "replace"))
    line = " ".join(text.split())
    return line[:_MOST_WORDS] + "…" if len(line) > _MOST_WORDS else line
