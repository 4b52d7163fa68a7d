"""What a base image holds: its Python, the packages that Python sees, its C library.

None of it is in the image's config, so the layers are read once per digest, as a stream, and what was
found is kept in the cache.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.parser import BytesHeaderParser
from typing import IO, Any

from gpuyard.images.file_system import FileSystem, Member

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INTERPRETER = re.compile(r"python3\.(\d+)")
_METADATA = re.compile(r"[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)")
_GLIBC = re.compile(rb"GNU C Library [^\n]{0,200}?release version (\d+)\.(\d+)")
_MUSL = re.compile(r"lib/ld-musl-[^/]+\.so\.1")
_MOST_METADATA = 1 << 16
_MOST_LIBC = 8 << 20
#: Folders under a prefix's lib/python3.N or lib/python3 that a system interpreter imports from.
_SITE = re.compile(
    r"(?P<prefix>.*)/lib(?:64)?/python3(?:\.(?P<minor>\d+))?/(?:site|dist)-packages/[^/]+(?:/[^/]+)?"
)


@dataclass(frozen=True)
class BasePython:
    """The interpreter that PATH finds.

    Attributes:
        path: absolute, links resolved.
        minor: 11 for Python 3.11.
        venv: prefix of the virtual environment that PATH finds it in, or empty.
    """

    path: str
    minor: int
    venv: str = ""

    @property
    def version(self) -> str:
        """`3.11`."""
        return f"3.{self.minor}"


@dataclass(frozen=True)
class BaseContents:
    """What was found.

    Attributes:
        python: None where PATH leads to none.
        packages: normalised name → version of what that Python imports.
        libc: `glibc` or `musl`, or empty.
        libc_version: such as (2, 36); (0, 0) when not known.
        passwd: text of /etc/passwd.
    """

    python: BasePython | None = None
    packages: Mapping[str, str] = field(default_factory=dict, hash=False)
    libc: str = ""
    libc_version: tuple[int, int] = (0, 0)
    passwd: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the cache."""
        return {
            "python": [self.python.path, self.python.minor, self.python.venv] if self.python else None,
            "packages": dict(self.packages),
            "libc": self.libc,
            "libc_version": list(self.libc_version),
            "passwd": self.passwd,
        }

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> BaseContents:
        """From the cache."""
        python = BasePython(*raw["python"]) if raw["python"] else None
        major, minor = raw["libc_version"]
        return cls(python, raw["packages"], raw["libc"], (major, minor), raw["passwd"])


@dataclass
class BaseReader:
    """Reads layers from the lowest to the highest; `contents` is what all of them together show."""

    files: FileSystem = field(default_factory=FileSystem)

    def read_layer(self, tar: IO[bytes]) -> None:
        """Takes one layer in, a tar stream without compression."""
        self.files.apply(tar, _wanted)

    def contents(self, env: Mapping[str, str]) -> BaseContents:
        """What the image shows.

        Args:
            env: of its config: PATH decides which Python is meant.
        """
        python = self._python(env.get("PATH") or _PATH)
        libc, version = self._libc()
        passwd = self.files.files.get("etc/passwd") or b""
        packages = self._packages(python) if python else {}
        return BaseContents(python, packages, libc, version, passwd.decode("utf-8", "replace"))

    def _python(self, path: str) -> BasePython | None:
        for folder in path.split(":"):
            for name in ("python3", "python", *self.files.names_in(folder)):
                found = self.files.resolve(posixpath.join(folder, name))
                match = _INTERPRETER.fullmatch(found.rpartition("/")[2]) if found else None
                if found and match:
                    prefix = posixpath.dirname(folder.rstrip("/"))
                    venv = prefix if f"{prefix.strip('/')}/pyvenv.cfg" in self.files.files else ""
                    return BasePython("/" + found, int(match[1]), venv)
        return None

    def _packages(self, python: BasePython) -> dict[str, str]:
        prefix = posixpath.dirname(posixpath.dirname(python.path)).strip("/")
        # Debian's interpreter imports from both; one of its own under /usr/local doesn't see Debian's.
        prefixes = {"usr", "usr/local"} if prefix in ("usr", "") else {prefix}
        if python.venv:
            prefixes.add(python.venv.strip("/"))
        packages: dict[str, str] = {}
        for path, content in self.files.contents():
            match = _SITE.fullmatch(path)
            if (
                not match
                or match["prefix"] not in prefixes
                or match["minor"] not in (None, str(python.minor))
            ):
                continue
            headers = BytesHeaderParser().parsebytes(content)
            if headers["Name"] and headers["Version"]:
                packages[normalise(headers["Name"])] = headers["Version"].strip()
        return dict(sorted(packages.items()))

    def _libc(self) -> tuple[str, tuple[int, int]]:
        for path, content in self.files.contents():
            if path.rpartition("/")[2] == "libc.version":
                major, minor = content.split(b".")
                return "glibc", (int(major), int(minor))
        musl = any(map(_MUSL.fullmatch, [*self.files.files, *self.files.links]))
        return ("musl", (1, 1)) if musl else ("", (0, 0))


def _wanted(member: Member, content: IO[bytes]) -> tuple[str, bytes] | None:
    """What of a file is kept, and under which path: package metadata, the C library's version, users."""
    path = member.path
    name = path.rpartition("/")[2]
    if path == "etc/passwd":
        return path, content.read(_MOST_METADATA)
    if "-packages/" in path and _METADATA.fullmatch(path.partition("-packages/")[2]):
        return path, content.read(_MOST_METADATA)
    if name == "libc.so.6" or (name.startswith("libc-2.") and name.endswith(".so")):
        match = _GLIBC.search(content.read(_MOST_LIBC))
        return (path.rpartition("/")[0] + "/libc.version", b"%s.%s" % match.groups()) if match else None
    return None


def normalise(name: str) -> str:
    """A package's name as comparisons need it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
