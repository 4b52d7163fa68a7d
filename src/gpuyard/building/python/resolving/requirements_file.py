"""Requirements files as pip and uv read them: what they include, ask for, and give hashes of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuyard import errors
from gpuyard.building.python.pylock import is_lock, lock_files
from gpuyard.building.python.wheels import Wheel, wheel_file
from gpuyard.images.contents.contents import normalise
from gpuyard.regular_files import read_regular

_INCLUDE = re.compile(r"(-r|-c|--requirement|--constraint)[\s=]*(\S+)")
_INDEX = re.compile(r"(?:-i|-f|--index-url|--extra-index-url|--find-links)[\s=]+(\S+)")
_HASH = re.compile(r"\s--hash[=\s]\s*(\S+)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: What asks for packages in a language of its own.
_OTHERS = frozenset({".toml", ".lock", ".cfg", ".py", ".yml", ".yaml"})
_VARIABLE = re.compile(r"\$\{([A-Za-z0-9_]+)\}")


@dataclass(frozen=True)
class Requirements:
    """A requirements file with all that it includes; also a pyproject.toml or a lock, which say less.

    Attributes:
        path: of the file.
        environ: for variables in it, written `${NAME}`.
    """

    path: Path
    environ: Mapping[str, str]

    def files(self) -> list[Path]:
        """The file and all that it includes by -r and -c, each once; of a lock what its content is in.

        Raises:
            UsageError: one can't be read.
        """
        if is_lock(self.path):
            return lock_files(self.path)
        return [path for path, _ in self._walk()]

    def contents(self) -> list[bytes]:
        """The bytes of the file and of all that it includes; raises UsageError."""
        return [_read(path) for path in self.files()]

    def asked(self) -> dict[str, list[str]]:
        """What the files ask for: normalised name → requirement texts. pyproject.toml gives none."""
        asked: dict[str, list[str]] = {}
        for line, _ in self._all_lines():
            if name := _name(line):
                asked.setdefault(name, []).append(_requirement(line))
        return asked

    def indexes(self) -> list[str]:
        """The indexes and pages of links that the files' options name, variables put in."""
        found = []
        for line, _ in self._all_lines():
            if match := _INDEX.match(line):
                found.append(self._with_variables(match[1]))
        return found

    def check_hashes_given(self) -> None:
        """Holds the files to pip's rule: with `--require-hashes`, or where one has a hash, all have one.

        Raises:
            UsageError: some have none, or no version that a hash could be of.
        """
        lines = [
            (line, constraint)
            for line, constraint in self._all_lines()
            if not line.startswith("-") or re.match(r"-e\b|--editable\b", line)
        ]
        options = [line for line, _ in self._all_lines()]
        if "--require-hashes" not in options and not any(_HASH.search(line) for line, _ in lines):
            return
        hashed = {_name(line) for line, _ in lines if _HASH.search(line)}
        bare = [
            _requirement(line) for line, constraint in lines if not constraint and _name(line) not in hashed
        ]
        if bare:
            raise errors.UsageError(
                f"{self.path.name} wants hashes, and there is none for: {', '.join(bare)}",
                remedy="give each its --hash, as `uv pip compile --generate-hashes` does, or none any",
            )
        loose = [_requirement(line) for line, constraint in lines if not constraint and not _is_pinned(line)]
        if loose:
            raise errors.UsageError(
                f"{self.path.name} wants hashes, and these name no version that they could be of: "
                f"{', '.join(loose)}",
                remedy="pin each with ==, as `uv pip compile --generate-hashes` does",
            )

    def check_hashes(self, wheels: Iterable[Wheel]) -> None:
        """Holds wheels against the files' hashes, which uv hands on only to installs.

        Raises:
            BuildError: a wheel has none of those for its name, or there are none for it.
        """
        given = self._hashes()
        wanted = given or "--require-hashes" in (line for line, _ in self._all_lines())
        for wheel in wheels if wanted else ():
            if wheel.name not in given:
                raise errors.BuildError(
                    f"{self.path.name} wants hashes, and there is none for {wheel.name} {wheel.version}, "
                    "which what it names requires",
                    remedy="lock all that is required: `uv pip compile --generate-hashes`",
                )
            if f"sha256:{wheel.sha256}" not in given[wheel.name]:
                raise errors.BuildError(
                    f"{wheel.file} has none of the hashes that {self.path.name} gives for {wheel.name}: "
                    f"its own is sha256:{wheel.sha256}",
                    remedy="lock the requirements anew for the base's Python and platform",
                )

    def _hashes(self) -> dict[str, set[str]]:
        """Normalised name → hashes that the files give for it."""
        found: dict[str, set[str]] = {}
        for line, _ in self._all_lines():
            hashes = _HASH.findall(line)
            if hashes and (name := _name(line)):
                found.setdefault(name, set()).update(text.lower() for text in hashes)
        return found

    def _with_variables(self, text: str) -> str:
        return _VARIABLE.sub(lambda name: self.environ.get(name[1], name[0]), text)

    def _walk(self) -> Iterator[tuple[Path, bool]]:
        """The file and all that it includes, each once; whether it came as constraints."""
        seen: list[Path] = []
        waiting = [(self.path, False)]
        while waiting:
            path, constraint = waiting.pop(0)
            if path.exists() and any(path.samefile(other) for other in seen):
                continue
            seen.append(path)
            yield path, constraint
            for line in _lines(path):
                match = _INCLUDE.match(line)
                if match and "://" not in (included := self._with_variables(match[2])):
                    waiting.append((path.parent / included, constraint or match[1] in ("-c", "--constraint")))

    def _all_lines(self) -> Iterator[tuple[str, bool]]:
        """Each line with whether it stands among constraints; locks and files of projects give none."""
        if self.path.suffix in _OTHERS:
            return
        for path, constraint in self._walk():
            for line in _lines(path):
                yield line, constraint


def _requirement(line: str) -> str:
    return re.split(r"\s--hash|\s+#", line)[0].strip()


def _name(line: str) -> str:
    """Normalised name of what a line asks for; empty of options, and of folders and archives of sources."""
    text = _requirement(line)
    if text.partition(" ")[0].partition("#")[0].endswith(".whl"):
        return normalise(wheel_file(text.partition(" ")[0]).partition("-")[0])
    match = _NAME.match(text)
    return normalise(match[0]) if match and "://" not in text.partition("@")[0] else ""


def _is_pinned(line: str) -> bool:
    text = _requirement(line).partition(";")[0]
    return "@" in text or ".whl" in text or bool(re.search(r"={2,3}\s*[^*,]+$", text))


def _read(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise errors.UsageError(
            f"can't read the requirements {path}: {error.strerror}",
            remedy="name a requirements file that is there",
        ) from error


def _lines(path: Path) -> list[str]:
    try:
        text = _read(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise errors.UsageError(
            f"can't read the requirements {path}: it isn't text in UTF-8", remedy="save it as UTF-8"
        ) from error
    joined = text.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]
