"""What a base image holds: its Python, the packages that Python sees, its C library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuyard.images.contents.folders import PLAIN, FolderMode, Folders
from gpuyard.images.contents.torch import Torch

PASSWD = "etc/passwd"


@dataclass(frozen=True)
class Interpreter:
    """The interpreter that PATH finds.

    Attributes:
        path: absolute, links resolved.
        minor: 11 for Python 3.11.
        venv: prefix of the virtual environment that PATH finds it in, or empty.
        mode: of the file: who may run it.
    """

    path: str
    minor: int
    venv: str = ""
    mode: FolderMode = field(default=PLAIN, compare=False)

    @property
    def version(self) -> str:
        """`3.11`."""
        return f"3.{self.minor}"


@dataclass(frozen=True)
class ImageContents:
    """What was found.

    Attributes:
        python: None where PATH leads to none.
        packages: normalised name → version of what that Python imports.
        libc: `glibc` or `musl`, or empty.
        libc_version: such as (2, 36); (0, 0) when not known.
        passwd: text of /etc/passwd.
        torch: the one that the Python imports, and what its version.py says of CUDA.
        folders: where its links lead and whose its folders are.
        passwd_path: where /etc/passwd is, links followed, without a leading slash.
        python_script: what PATH finds where it is a script and no interpreter; else empty.
    """

    python: Interpreter | None = None
    packages: Mapping[str, str] = field(default_factory=dict, hash=False)
    libc: str = ""
    libc_version: tuple[int, int] = (0, 0)
    passwd: str = ""
    torch: Torch | None = None
    folders: Folders = field(default_factory=Folders)
    passwd_path: str = PASSWD
    python_script: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the cache."""
        python = self.python
        return {
            "python": [python.path, python.minor, python.venv, list(python.mode)] if python else None,
            "packages": dict(self.packages),
            "libc": self.libc,
            "libc_version": list(self.libc_version),
            "passwd": self.passwd,
            "torch": [self.torch.version, self.torch.folder, self.torch.cuda] if self.torch else None,
            "folders": self.folders.to_json(),
            "passwd_path": self.passwd_path,
            "python_script": self.python_script,
        }

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> ImageContents:
        """From the cache."""
        python = None
        if raw["python"]:
            path, minor_version, venv, mode = raw["python"]
            python = Interpreter(path, minor_version, venv, FolderMode(*mode))
        major, minor = raw["libc_version"]
        torch = Torch(*raw["torch"]) if raw["torch"] else None
        return cls(
            python,
            raw["packages"],
            raw["libc"],
            (major, minor),
            raw["passwd"],
            torch,
            Folders.of(raw["folders"]),
            raw["passwd_path"],
            raw["python_script"],
        )


def normalise(name: str) -> str:
    """A package's name as comparisons need it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
