"""Lines of a requirements file, told apart by what uv would do for them: fetch a wheel, or run a build.

uv builds a folder, a repository or an archive of sources to learn what it requires, for `-e` even when it
is told to build nothing; so they are seen here, before uv reads the file. Comments, continued lines, quotes
and variables are as in uv (crates/uv-requirements-txt).
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
_HASH = r"\s--hash[=\s]\s*(\S+)"
_OPTIONS = r"\s--(?:hash|config-settings?)\b"
#: A value goes to the line's end; the short options need no space before it.
_OPTION = r"(?P<name>-[a-z]|--[a-z-]+)[\s=]*(?P<value>.*)"
#: One of these is in each line that isn't a name with a version.
_UNUSUAL = ("/", "@", ":", "$", ".whl", ".tar", ".tgz", ".tbz", ".txz", ".tlz", ".zip")
_VARIABLE = r"\$\{([A-Z0-9_]+)\}"


class Kind(Enum):
    """What a line asks for."""

    REQUIREMENT = "a distribution of an index, or a wheel"
    FOLDER = "a folder of this machine"
    SOURCES = "sources elsewhere: a repository or an archive"
    NO_BINARY = "that an index's sources are built"
    REMOTE = "another file, of which nobody knows what it asks for"
    INCLUDE = "another file of requirements"
    CONSTRAINTS = "a file of constraints"
    LINKS = "a folder or a page of wheels"
    INDEX = "an index"
    OPTION = "something else"


_BY_OPTION = {
    "-r": Kind.INCLUDE, "--requirement": Kind.INCLUDE,
    "-c": Kind.CONSTRAINTS, "--constraint": Kind.CONSTRAINTS,
    "-f": Kind.LINKS, "--find-links": Kind.LINKS,
    "-i": Kind.INDEX, "--index-url": Kind.INDEX, "--extra-index-url": Kind.INDEX,
    "--no-binary": Kind.NO_BINARY,
}  # fmt: skip


@dataclass(frozen=True)
class RequirementLine:
    """One line.

    Attributes:
        text: as the user wrote it.
        where: of a folder its path as written, of sources their address, of others what they name;
            variables are put in.
        name: where the line says it.
        extras: of the distribution.
        marker: of the environment; empty for all.
        hashes: `ALGORITHM:DIGEST` of what it names.
        bare: without hashes and quotes, variables put in; an option's value.
    """

    kind: Kind
    text: str
    where: str = ""
    name: str = ""
    extras: tuple[str, ...] = ()
    marker: str = ""
    hashes: tuple[str, ...] = ()
    bare: str = ""


def logical_lines(text: str) -> list[str]:
    """The lines of a file, those joined that go on; comments are empty lines, and end with their own line."""
    found, open_line = [], ""
    for line in text.splitlines():
        bare = re.sub(r"(?:^|\s+)#.*", "", line)
        if bare == line and line.endswith("\\"):
            open_line += line[:-1] + " "
        else:
            found.append((open_line + bare).strip())
            open_line = ""
    return [*found, open_line.strip()] if open_line else found


def parse_line(line: str, folder: Path, environ: Mapping[str, str]) -> RequirementLine:
    """Reads a line, without a comment and with continued lines joined.

    Args:
        line: of a requirements file.
        folder: that its paths are relative to.
        environ: for `${NAME}` in it.
    """
    text = line.strip()
    if text[:1].isalnum() and not any(mark in text for mark in _UNUSUAL):
        return RequirementLine(Kind.REQUIREMENT, text, text, bare=text)
    editable = re.match(_EDITABLE, text)
    if text.startswith("-") and not editable:
        return _parse_option(text, environ)
    told = _plain(re.split(_OPTIONS, editable["rest"] if editable else text)[0], environ)
    hashes, bare = tuple(found.lower() for found in re.findall(_HASH, text)), told
    told, marker = [*re.split(_MARKER, told, maxsplit=1), ""][:2]
    name, extras, where = "", "", told.strip()
    if (named := re.fullmatch(_NAMED, where)) and not re.match(_VCS, where):
        name, extras, where = named["name"], (named["extras"] or "").strip("[]"), named["where"].strip()
    elif (inner := re.fullmatch(_EXTRAS, where)) and _is_address(inner["where"]):
        where, extras = inner["where"], inner["extras"]
    listed = tuple(extra.strip() for extra in extras.split(",") if extra.strip())
    kind = _kind(where, folder, addressed=bool(name or editable))
    return RequirementLine(kind, text, where, name or _egg(where), listed, marker.strip(), hashes, bare)


def _parse_option(text: str, environ: Mapping[str, str]) -> RequirementLine:
    match = re.fullmatch(_OPTION, text)
    if match is None:
        return RequirementLine(Kind.OPTION, text)
    value = _plain(match["value"], environ)
    kind = _BY_OPTION.get(match["name"], Kind.OPTION)
    if kind is Kind.INCLUDE and "://" in value and not value.startswith("file:"):
        kind = Kind.REMOTE
    elif kind is Kind.NO_BINARY and value == ":none:":
        kind = Kind.OPTION
    return RequirementLine(kind, text, value, bare=value)


def _plain(text: str, environ: Mapping[str, str]) -> str:
    """A text without the quotes around it, variables put in."""
    text = text.strip()
    if quoted := re.fullmatch(r"(['\"])(.*)\1", text):
        text = quoted[2]
    return re.sub(_VARIABLE, lambda found: environ.get(found[1], found[0]), text)


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
        return Kind.REQUIREMENT if file.endswith(".whl") else Kind.SOURCES
    if not (addressed or _is_address(where)):
        return Kind.REQUIREMENT
    if file.endswith(".whl"):
        return Kind.REQUIREMENT
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
