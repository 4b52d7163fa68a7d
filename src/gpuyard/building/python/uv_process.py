"""Runs uv, which comes with gpuyard, and programs that it would run: with the environment that they need."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuyard.images.subprocesses import outputs

_NO_BUILDS = Path(__file__).with_name("no_builds")
#: What uv, and a keyring that it asks, may need; LD_LIBRARY_PATH is for the interpreter that it looks at.
_NEEDED = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "NETRC", "LD_LIBRARY_PATH",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "DBUS_SESSION_BUS_ADDRESS",
        "PYTHON_KEYRING_BACKEND",
    }
)  # fmt: skip
_NEEDED_PREFIXES = ("UV_", "LC_", "XDG_")
#: Keyrings of clouds have their credentials in variables of any name.
_KEYRING = "UV_KEYRING_PROVIDER"
_VARIABLE = re.compile(rb"\$\{([A-Z0-9_]+)\}")


@dataclass(frozen=True)
class UvDone:
    """How it ended, and what it said."""

    code: int
    out: str
    err: str


async def run_uv(
    arguments: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    reads: Iterable[Path] = (),
    builds: bool = False,
    sent: bytes | None = None,
) -> UvDone:
    """Runs it to its end; killed when the caller is cancelled.

    Args:
        arguments: subcommand and options.
        folder: where it is run, and looks for its configuration unless `--project` names another.
        environ: of which it gets what it needs.
        reads: requirements files, whose `${NAME}` are needed, too.
        builds: whether it may run builds.
        sent: its standard input.
    """
    import uv

    words = (uv.find_uv_bin(), *arguments, "--no-progress", "--color", "never")
    env = uv_environ(environ, reads) | ({} if builds else {"PYTHONPATH": str(_NO_BUILDS)})
    return await _run(words, folder, env, sent)


async def run_program(
    name: str, arguments: Sequence[str], *, folder: Path, environ: Mapping[str, str]
) -> UvDone | None:
    """The same for a program on the PATH of `environ`; None when it isn't there."""
    found = shutil.which(name, path=environ.get("PATH", ""))
    return await _run((found, *arguments), folder, environ, None) if found else None


async def _run(words: Sequence[str], folder: Path, environ: Mapping[str, str], sent: bytes | None) -> UvDone:
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=folder,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL if sent is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await outputs(process, sent)
    assert process.returncode is not None
    return UvDone(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace").strip())


def uv_environ(environ: Mapping[str, str], reads: Iterable[Path] = ()) -> dict[str, str]:
    """What uv gets of an environment: all that it can need, and nothing that only others need.

    With a keyring that is a program, it gets the whole, but for what would change how Python starts.
    """
    if environ.get(_KEYRING, "disabled") != "disabled":
        return {name: value for name, value in environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    named = {name.decode() for path in reads for name in _VARIABLE.findall(_content(path))}
    return {
        name: value
        for name, value in environ.items()
        if name.upper() in _NEEDED or name.startswith(_NEEDED_PREFIXES) or name in named
    }


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
