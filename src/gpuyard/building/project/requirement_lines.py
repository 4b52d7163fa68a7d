"""Lines of a requirements file, told apart by what uv would do for them: fetch a wheel, or run a build.

uv builds a folder, a repository or an archive of sources to learn what it requires, for `-e` even when it
is told to build nothing; so they are seen here, before uv reads the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Compiled when a line needs them, which few files have: it costs start-up time.
_EDITABLE = r"(?:-e|--editable)(?:[\s=]+|(?=[./]))(?P<rest>.*)"
_NAMED = r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?P<extras>\[[^\]]*\])?\s*@\s*(?P<where>.*)"
_EXTRAS = r"(?P<where>.*?)\s*\[(?P<extras>[A-Za-z0-9._,\s-]*)\]"
_MARKER = r"\s+;|;\s+|;(?=\s*(?:python|sys|platform|os|extra|implementation)_)"
_VCS = r"(?:git|hg|svn|bzr)\+"
_ARCHIVE = r"\.(?:tar\.(?:gz|bz2|xz|zst|lzma)|tgz|tbz|txz|tlz|tar|zip)$"
_NO_BINARY = r"--no-binary[\s=]+(?P<names>\S+)"
_REMOTE_INCLUDE = r"(?:-r|--requirement)[\s=]*(?P<url>[a-z][a-z+]*://\S+)"
#: One of these is in each line that isn't a name with a version.
_UNUSUAL = ("/", "@", ":", "$", ".whl", ".tar", ".tgz", ".tbz", ".txz", ".tlz", ".zip")
_VARIABLE = r"\$\{([A-Z0-9_]+)\}"


class Kind(Enum):
    """What a line asks for."""

    OTHER = "an option, a distribution of an index, or a wheel"
    FOLDER = "a folder of this machine"
    SOURCES = "sources elsewhere: a repository or an archive"
    NO_BINARY = "that an index's sources are built"
    REMOTE = "another file, of which nobody knows what it asks for"


@dataclass(frozen=True)
class RequirementLine:
    """One line.

    Attributes:
        text: as the user wrote it.
        where: of a folder its path as written, of sources their address, of others what they name.
        name: where the line says it.
        extras: of the distribution.
        marker: of the environment; empty for all.
    """

    kind: Kind
    text: str
    where: str = ""
    name: str = ""
    extras: tuple[str, ...] = ()
    marker: str = ""


def parse_line(line: str, folder: Path, environ: Mapping[str, str]) -> RequirementLine:
    """Reads a line, without a comment and with continued lines joined.

    Args:
        line: of a requirements file.
        folder: that its paths are relative to.
        environ: for `${NAME}` in it.
    """
    text = line.strip()
    if text[:1].isalnum() and not any(mark in text for mark in _UNUSUAL):
        return RequirementLine(Kind.OTHER, text, text)
    if match := re.match(_NO_BINARY, text):
        kind = Kind.OTHER if match["names"] == ":none:" else Kind.NO_BINARY
        return RequirementLine(kind, text, match["names"])
    if match := re.match(_REMOTE_INCLUDE, text):
        return RequirementLine(Kind.REMOTE, text, match["url"])
    editable = re.match(_EDITABLE, text)
    if text.startswith("-") and not editable:
        return RequirementLine(Kind.OTHER, text)
    told = re.split(r"\s--(?:hash|config-settings?)\b", editable["rest"] if editable else text)[0].strip()
    told = re.sub(_VARIABLE, lambda found: environ.get(found[1], found[0]), told)
    if quoted := re.fullmatch(r"(['\"])(.*)\1", told):
        told = quoted[2]
    told, marker = [*re.split(_MARKER, told, maxsplit=1), ""][:2]
    name, extras, where = "", "", told.strip()
    if (named := re.fullmatch(_NAMED, where)) and not re.match(_VCS, where):
        name, extras, where = named["name"], (named["extras"] or "").strip("[]"), named["where"].strip()
    elif (inner := re.fullmatch(_EXTRAS, where)) and _is_address(inner["where"]):
        where, extras = inner["where"], inner["extras"]
    listed = tuple(extra.strip() for extra in extras.split(",") if extra.strip())
    kind = _kind(where, folder, addressed=bool(name or editable))
    return RequirementLine(kind, text, where, name or _egg(where), listed, marker.strip())


def local_path(where: str, folder: Path) -> Path | None:
    """The path of an address on this machine; None of others."""
    bare = where.partition("#")[0]
    if bare.startswith("file:"):
        return folder / unquote(urlsplit(bare).path)
    if "://" in bare or re.match(_VCS, bare):
        return None
    return folder / Path(bare).expanduser()


def _kind(where: str, folder: Path, *, addressed: bool) -> Kind:
    if re.match(_VCS, where):
        return Kind.SOURCES
    path = local_path(where, folder)
    file = unquote(where.partition("#")[0].partition("?")[0])
    if path is None:
        # Without an ending, uv would take an address for an archive of sources as well.
        return Kind.OTHER if file.endswith(".whl") else Kind.SOURCES
    if not (addressed or _is_address(where)):
        return Kind.OTHER
    if file.endswith(".whl"):
        return Kind.OTHER
    return Kind.SOURCES if re.search(_ARCHIVE, file) else Kind.FOLDER


def _is_address(text: str) -> bool:
    """Whether a text without a name is a path or a URL, not a distribution's name, by uv's rule."""
    return (
        "://" in text
        or text.startswith((".", "~", "file:"))
        or os.sep in text.partition(" ")[0].partition("=")[0]
        or bool(re.search(_ARCHIVE, text))
    )


def _egg(where: str) -> str:
    match = re.search(r"#(?:.*&)?egg=([A-Za-z0-9._-]+)", where)
    return match[1] if match else ""
