"""The virtual environment inside an image: where it is, and the few files that make it one.

It sees the base's own packages (`include-system-site-packages`), so what the base brings isn't there
twice. It is written by us, not by `venv`: nothing of the base runs during a build.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gpuyard.images.contents.contents import ImageContents, Interpreter
from gpuyard.images.layers import Entry

PREFIX = "/opt/gpuyard/venv"
LAUNCHER = "/opt/gpuyard/launcher.py"
#: What starts an image: the launcher, and then the command.
ENTRYPOINT = (f"{PREFIX}/bin/python", LAUNCHER, "--")
USER, UID, HOME = "gpuyard", 1000, "/home/gpuyard"
WORKDIR = "/workspace"
#: Label by which a build says which Python is in an image.
LABEL_PYTHON = "io.gpuyard.python"


@dataclass(frozen=True)
class Environment:
    """The image's environment for one base interpreter."""

    python: Interpreter

    @property
    def interpreter(self) -> str:
        """What scripts start with."""
        return f"{PREFIX}/bin/python"

    @property
    def site_packages(self) -> str:
        """Where wheels go."""
        return f"{PREFIX}/lib/python{self.python.version}/site-packages"

    def entries(self) -> Iterator[Entry]:
        """The environment's own files."""
        root = PREFIX.strip("/")
        home = self.python.path.rpartition("/")[0]
        config = (
            f"home = {home}\ninclude-system-site-packages = true\nversion = {self.python.version}\n"
            f"executable = {self.python.path}\n"
        )
        yield Entry.of_bytes(f"{root}/pyvenv.cfg", config.encode())
        yield Entry.link(f"{root}/bin/python", self.python.path)
        for name in ("python3", f"python{self.python.version}"):
            yield Entry.link(f"{root}/bin/{name}", "python")
        site = self.site_packages.strip("/")
        yield Entry.folder(site)
        # A base of ours has this environment already, with what it sees.
        if self.python.venv and self.python.venv != PREFIX:
            # The base's interpreter is in an environment of its own, which ours wouldn't see.
            inner = f"{self.python.venv}/lib/python{self.python.version}/site-packages\n"
            yield Entry.of_bytes(f"{site}/_base.pth", inner.encode())


def names_replaced(
    environment: Environment, packages: Mapping[str, str], names: Iterable[str]
) -> tuple[str, ...]:
    """Of names of wheels, those that a base of ours has already, maybe in the environment that they go into.

    Other bases have folders of their own, which ours goes before.

    Args:
        packages: what the base brings: version by name.
    """
    if environment.python.venv != PREFIX:
        return ()
    return tuple(sorted(name for name in names if name in packages))


def home_entries(base: ImageContents) -> Iterator[Entry]:
    """What an unprivileged user needs: a home, /tmp, and a name for its number where none has it.

    Args:
        base: what is in the base.
    """
    yield Entry.folder(HOME.strip("/"), owner=UID)
    yield Entry.folder("tmp", mode=0o1777)
    lines = base.passwd.splitlines()
    taken = any(line.split(":")[:1] == [USER] or line.split(":")[2:3] == [str(UID)] for line in lines)
    if lines and not taken:
        added = f"{USER}:x:{UID}:{UID}::{HOME}:/bin/sh"
        yield Entry.of_bytes(base.passwd_path, "\n".join([*lines, added, ""]).encode())
