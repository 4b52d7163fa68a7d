"""Wheels of the user's own sources, built by the sources' own backend: when asked for, in the open, isolated.

A build runs whatever its authors wrote. It gets a copy of the tree, an environment without secrets and a home
of its own; what it prints is shown when it fails. It runs as the user all the same, and may read what the
user may.
"""

from __future__ import annotations

import hashlib
import os
import platform as machine_platform
import shutil
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.atomic_files import temporary_folder
from gpuyard.building.project.repository_copy import RepositoryState, copy_repository, read_state
from gpuyard.building.python.byte_code import find_compiler
from gpuyard.building.python.index.settings import read_settings, with_keyring
from gpuyard.building.python.platform_tags import tags
from gpuyard.building.python.uv_process import build_environ, run_uv, told_compilers
from gpuyard.building.python.wheels import Wheel, keep_wheel, wheel_path
from gpuyard.building.workdir.file_digests import FileDigests
from gpuyard.building.workdir.git import Repository
from gpuyard.building.workdir.walk import Walk
from gpuyard.images.cache import Cache
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.oci import Platform

_KIND = "built-wheels"
#: Above this many bytes, a file's digest is remembered; smaller ones are read each time.
_LARGE_BYTES = 16_000_000


@dataclass(frozen=True)
class WheelBuilder:
    """Builds for one base.

    Attributes:
        contents: what the base holds; it must have a Python.
        environ: of which a build gets what it needs.
        folder: where uv looks for its configuration of indexes, and above it.
        created: Unix time that files in a wheel are to have, seconds.
        say: told of each build.
    """

    platform: Platform
    contents: ImageContents
    cache: Cache
    environ: Mapping[str, str]
    folder: Path
    created: int
    say: Callable[[str], None]

    async def of_folder(self, project: Path) -> Wheel:
        """The wheel of a project as it is now; one of the same files is built once.

        Raises:
            BuildError: the build fails, or makes what doesn't run on the base.
        """
        walk = Walk(project, self.environ)
        walk.run()
        state = await self._repository_state(project)
        key = self._key(await self._tree_digest(project, walk, state.text if state else ""))
        if known := self._known(key):
            self.check(known, project)
            return known
        with temporary_folder() as folder:
            tree = folder / project.name
            _copy(project, walk, tree)
            if state and state.text:
                copy_repository(state.repository, tree)
            return await self._built(tree, folder, key, project)

    async def _repository_state(self, project: Path) -> RepositoryState | None:
        if not (project / ".git").exists():
            return None
        state = await read_state(Repository.at(project), self.environ)
        if state.failure:
            self.say(f"the build of {project} is told nothing of its repository: {state.failure}")
        return state

    async def _tree_digest(self, project: Path, walk: Walk, repository: str) -> str:
        """What of a tree decides its wheel; what git says of it does, for a version may come from there."""
        large = {
            path: s.st_size for path, s in walk.files if stat.S_ISREG(s.st_mode) and s.st_size > _LARGE_BYTES
        }
        digests = await FileDigests(project, self.cache, lambda done, total: None, "project").digests(large)
        sha256 = hashlib.sha256(repository.encode())
        for path, state in sorted(walk.files):
            sha256.update(repr((path, state.st_mode, state.st_size)).encode("utf-8", "surrogateescape"))
            if stat.S_ISLNK(state.st_mode):
                sha256.update(os.fsencode((project / path).readlink()))
            else:
                sha256.update(digests[path].encode() if path in digests else (project / path).read_bytes())
        return sha256.hexdigest()

    async def of_tree(self, tree: Path, folder: Path, name: str, digest: str) -> Wheel:
        """The wheel of a tree that nobody else uses.

        Args:
            tree: with the sources; the build may change it.
            folder: for what a build writes beside it.
            name: of the sources, for messages.
            digest: of them.
        """
        return await self._built(tree, folder, self._key(digest), name)

    def known(self, digest: str) -> Wheel | None:
        """The wheel of sources that was built before."""
        return self._known(self._key(digest))

    def _key(self, digest: str) -> str:
        assert self.contents.python is not None
        telling = sorted(told_compilers(self.environ).items())
        parts = (digest, self.contents.python.version, machine_platform.machine(), self.created, telling)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _known(self, key: str) -> Wheel | None:
        raw = self.cache.read(_KIND, f"{key}.json")
        wheel = Wheel(str(raw["file"]), str(raw["sha256"]), int(raw["size"])) if raw else None
        return wheel if wheel and wheel_path(self.cache, wheel).exists() else None

    async def _built(self, tree: Path, folder: Path, key: str, called: Path | str) -> Wheel:
        assert self.contents.python is not None
        self.say(f"building a wheel of {called}, which runs its build on this machine")
        compiler = await find_compiler(self.contents.python.minor, self.environ)
        environ = with_keyring(self.environ, read_settings(self.environ, self.folder))
        out = folder / "wheels"
        done = await run_uv(
            ("build", "--wheel", "--out-dir", str(out), str(tree)),
            folder=self.folder,
            environ=build_environ(environ, folder, self.created),
            builds=True,
            python=compiler.program if compiler else sys.executable,
        )
        found = sorted(out.glob("*.whl"))
        if done.code or not found:
            said = "\n".join(text for text in (done.out.strip(), done.err) if text)
            raise errors.BuildError(
                f"the build of {called} failed:\n{said.replace(str(folder) + '/', '')}",
                remedy="mend what it says; a build has a home of its own, and only compilers' variables",
            )
        wheel = keep_wheel(self.cache, found[0])
        self.check(wheel, called, exact=compiler is not None)
        self.cache.write(
            _KIND, f"{key}.json", {"file": wheel.file, "sha256": wheel.sha256, "size": wheel.size}
        )
        return wheel

    def check(self, wheel: Wheel, called: Path | str, *, exact: bool = True) -> None:
        """Refuses what wouldn't run on the base."""
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename

        try:
            own = parse_wheel_filename(wheel.file)[3]
        except InvalidWheelFilename as error:
            raise errors.BuildError(f"the build of {called} made {wheel.file}: {error}") from error
        assert self.contents.python is not None
        python = self.contents.python.version
        pure = all(tag.platform == "any" for tag in own)
        if not own.intersection(tags(self.platform, self.contents)):
            raise errors.BuildError(
                f"the build of {called} made {wheel.file}, which doesn't fit the base (Python {python}, "
                f"{self.platform})",
                remedy="build on a machine of the base's platform, or choose another base",
            )
        if not pure and not exact:
            raise errors.BuildError(
                f"{called} has native code, and there is no python{python} here to build it with",
                remedy=f"put python{python} on PATH, or choose another base",
            )


def _copy(project: Path, walk: Walk, tree: Path) -> None:
    tree.mkdir()
    for name in walk.folders:
        (tree / name).mkdir(parents=True, exist_ok=True)
    for path, _ in walk.files:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(project / path, tree / path, follow_symlinks=False)
