"""Runs uv, which comes with gpuyard, and programs that it would run: with the environment that they need."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
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
#: Variables with paths, and what separates several in one.
_PATHS = {
    "NETRC": "", "SSL_CERT_DIR": "", "SSL_CERT_FILE": "", "SSL_CLIENT_CERT": "", "UV_CACHE_DIR": "",
    "UV_CONFIG_FILE": "", "UV_CONSTRAINT": " ", "UV_EXCLUDE": " ", "UV_FIND_LINKS": ",", "UV_OVERRIDE": " ",
}  # fmt: skip
#: Else a uv.toml has builds run where nothing ends them: in the interpreter's own environment.
ISOLATED = ("--build-isolation",)
#: Keyrings of clouds have their credentials in variables of any name.
_KEYRING = "UV_KEYRING_PROVIDER"
#: What a compiler or a backend is told by variables; these are part of what a wheel depends on.
_TELLING = re.compile(
    r"(?:CC|CXX|AR|LD|NVCC|C(?:XX|PP)?FLAGS|LDFLAGS|MAKEFLAGS|PKG_CONFIG_PATH|CMAKE_\w+|CUDA_HOME|CUDA_PATH"
    r"|TORCH_CUDA_ARCH_LIST|MAX_JOBS|RUSTFLAGS|RUSTUP_HOME|RUSTUP_TOOLCHAIN|SETUPTOOLS_SCM_PRETEND_VERSION\w*)"
)
#: What reaches a package index, and finds programs.
_REACHING = re.compile(
    r"(?:PATH|LANG|LC_\w+|TZ|UV_(?!PUBLISH_)\w+|SSL_CERT_FILE|SSL_CERT_DIR|(?:HTTPS?|ALL|NO)_PROXY)",
    re.IGNORECASE,
)
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
    python: str = sys.executable,
    sent: bytes | None = None,
) -> UvDone:
    """Runs it to its end; killed when the caller is cancelled.

    Neither the folder nor its files choose a program: uv would start a `.venv/bin/python` to ask it for its
    version, what `.python-version` or a `uv.toml` name, and `keyring` for an index of the folder's.

    Args:
        arguments: subcommand and options.
        folder: where it is run, and looks for its configuration unless `--project` names another.
        environ: of which it gets what it needs; all of it where it may run builds.
        reads: requirements files, whose `${NAME}` are needed, too.
        builds: whether it may run builds.
        python: the interpreter that it asks about Python, and builds with.
        sent: its standard input.
    """
    import uv

    asked = () if arguments[0] == "auth" else ("--python", python)
    words = (uv.find_uv_bin(), *arguments, *asked, "--no-progress", "--color", "never")
    environ = {**environ, **_with_whole_paths(environ)}
    env = dict(environ) if builds else uv_environ(environ, reads) | {"PYTHONPATH": str(_NO_BUILDS)}
    env.setdefault(_KEYRING, "disabled")
    env.pop("UV_SYSTEM_PYTHON", None)  # which mayn't stand beside the next
    env["UV_PROJECT_ENVIRONMENT"] = str(_NO_BUILDS / "none")
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


def build_environ(
    environ: Mapping[str, str], folder: Path, created: int, reads: Iterable[Path] = ()
) -> dict[str, str]:
    """What a build gets: of the user's, what reaches an index, and what tells a compiler.

    Args:
        environ: the user's.
        folder: in which it gets a home of its own.
        created: Unix time that files in a wheel are to have, seconds.
        reads: requirements files, whose `${NAME}` are needed, too.
    """
    home = folder / "home"
    home.mkdir(exist_ok=True)
    mine = Path(environ.get("HOME") or "~").expanduser()
    named = {name.decode() for path in reads for name in _VARIABLE.findall(_content(path))}
    found = {
        name: value for name, value in environ.items() if name in named or _REACHING.fullmatch(name)
    } | told_compilers(environ)
    found.setdefault("UV_CACHE_DIR", f"{environ.get('XDG_CACHE_HOME') or mine / '.cache'}/uv")
    if (mine / ".rustup").is_dir():
        found.setdefault("RUSTUP_HOME", str(mine / ".rustup"))
    return found | {
        "HOME": str(home),
        # uv's own configuration, and its logins: of indexes, and by their path alone.
        "XDG_CONFIG_HOME": environ.get("XDG_CONFIG_HOME") or str(mine / ".config"),
        "NETRC": environ.get("NETRC") or str(mine / ".netrc"),
        "SOURCE_DATE_EPOCH": str(created),
        "PYTHONHASHSEED": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def told_compilers(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables by which compilers and backends are told something."""
    return {name: value for name, value in environ.items() if _TELLING.fullmatch(name)}


def _with_whole_paths(environ: Mapping[str, str]) -> dict[str, str]:
    """Paths in variables, which start from where the user is, and not from where uv is run."""
    found = {}
    for name, separator in _PATHS.items():
        if text := environ.get(name):
            paths = text.split(separator) if separator else [text]
            found[name] = separator.join(map(_whole, paths))
    return found


def _whole(path: str) -> str:
    return path if not path or "://" in path or path.startswith("~") else str(Path(path).absolute())


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
