"""Where the base gets packages from (sources.list(5)), and mirrors of the user's in place of that."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gpuyard import errors
from gpuyard.building.system_packages.control import Fields, read_paragraphs

#: FROM=TO words: an address that begins with FROM is asked at TO; with an empty TO it is left out.
ENV_MIRRORS = "GPUYARD_APT_MIRRORS"
_LISTS = "etc/apt/sources.list.d/"
_SCHEMES = ("http://", "https://")


@dataclass(frozen=True)
class AptSource:
    """One archive and suite.

    Attributes:
        uri: of the archive, with a slash at its end.
        suite: such as bookworm; a path that ends in a slash for an archive without components.
        components: empty for such a one.
        keyrings: paths of keyrings, or fingerprints, that may sign; empty for all that apt trusts.
        key: a public key in text that may sign.
        trusted: whether the base takes it without a signature.
        checks_date: whether an outdated index is refused.
        where: file in the base, for messages.
    """

    uri: str
    suite: str
    components: tuple[str, ...] = ()
    keyrings: tuple[str, ...] = ()
    key: str = ""
    trusted: bool = False
    checks_date: bool = True
    where: str = ""

    @property
    def dists(self) -> str:
        """URL of the folder with InRelease."""
        if not self.components:
            return self.uri if self.suite in ("/", "./") else self.uri + self.suite.lstrip("/")
        return f"{self.uri}dists/{self.suite}/"

    def __str__(self) -> str:
        return f"{masked(self.uri)} {self.suite}"


@dataclass(frozen=True)
class AptSources:
    """Those of a base for one architecture.

    Attributes:
        found: each archive and suite once.
        skipped: what of the base's isn't used, and why.
    """

    found: tuple[AptSource, ...]
    skipped: tuple[str, ...] = ()


def masked(url: str) -> str:
    """An address without a user and password, for messages."""
    scheme, slashes, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"


def read_sources(files: Mapping[str, bytes], arch: str, environ: Mapping[str, str]) -> AptSources:
    """The sources of a base.

    Args:
        files: of the base, by path without a leading slash.
        arch: Debian's name of the architecture.
        environ: for the user's mirrors.

    Raises:
        UsageError: the user's mirrors can't be read.
    """
    found: dict[tuple[str, str], AptSource] = {}
    skipped: list[str] = []
    mirrors = _mirrors(environ)
    for source in _listed(files, arch):
        if not source.uri.startswith(_SCHEMES):
            skipped.append(f"{source} ({source.where}): not at an http or https address")
            continue
        uri = _mirrored(source.uri, mirrors)
        if uri is None:
            skipped.append(f"{source}: left out by {ENV_MIRRORS}")
            continue
        source = replace(source, uri=uri)
        # Options of a second line for one suite count for its components only in apt; the first's stand here.
        known = found.get((source.uri, source.suite))
        components = dict.fromkeys((*(known.components if known else ()), *source.components))
        found[source.uri, source.suite] = replace(known or source, components=tuple(components))
    return AptSources(tuple(found.values()), tuple(skipped))


def _listed(files: Mapping[str, bytes], arch: str) -> Iterator[AptSource]:
    paths = [path for path in sorted(files) if path.startswith(_LISTS)]
    for path in ["etc/apt/sources.list", *paths]:
        text = files.get(path, b"").decode("utf-8", "replace")
        if path.endswith(".list"):
            for line in text.splitlines():
                yield from _of_line(line.partition("#")[0].strip(), path, arch)
        elif path.endswith(".sources"):
            for fields in read_paragraphs(text):
                yield from _of_fields(fields, path, arch)


def _of_line(line: str, where: str, arch: str) -> Iterator[AptSource]:
    """`deb [option=value …] URI SUITE [COMPONENT …]`."""
    kind, _, rest = line.replace("\t", " ").partition(" ")
    if kind != "deb":
        return
    options: dict[str, str] = {}
    without: set[str] = set()
    rest = rest.strip()
    if rest.startswith("["):
        inside, _, rest = rest[1:].partition("]")
        for word in inside.split():
            name, _, value = word.partition("=")
            if name.lower() == "arch-":
                without |= set(value.split(","))
            else:
                options[name.strip().lower().rstrip("+-")] = value
    if arch in without:
        return
    try:
        uri, suite, *components = shlex.split(rest)
    except ValueError:
        return
    fields = {
        "types": "deb",
        "uris": uri,
        "suites": suite,
        "components": " ".join(components),
        "architectures": options.get("arch", "").replace(",", " "),
        "signed-by": options.get("signed-by", "").replace(",", " "),
        "trusted": options.get("trusted", ""),
        "check-valid-until": options.get("check-valid-until", ""),
    }
    yield from _of_fields(fields, where, arch)


def _of_fields(fields: Fields, where: str, arch: str) -> Iterator[AptSource]:
    if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in (
        "no",
        "false",
    ):
        return
    architectures = fields.get("architectures", "").split()
    if (architectures and arch not in architectures) or arch in fields.get(
        "architectures-remove", ""
    ).split():
        return
    signed_by = fields.get("signed-by", "")
    inline = "BEGIN PGP" in signed_by
    for uri in fields.get("uris", "").split():
        for suite in fields.get("suites", "").split():
            yield AptSource(
                uri=uri.rstrip("/") + "/",
                suite=suite.replace("$(ARCH)", arch),
                components=() if suite.endswith("/") else tuple(fields.get("components", "").split()),
                keyrings=() if inline else tuple(signed_by.replace(",", " ").split()),
                key=_inline_key(signed_by) if inline else "",
                trusted=_is_yes(fields.get("trusted", "")),
                checks_date=fields.get("check-valid-until", "yes").lower() not in ("no", "false"),
                where="/" + where,
            )


def _inline_key(value: str) -> str:
    """A key in a field: each line is indented by a blank, and an empty one is a dot."""
    lines = [line.strip() for line in value.splitlines()]
    return "\n".join("" if line == "." else line for line in lines).strip() + "\n"


def _is_yes(value: str) -> bool:
    return value.lower() in ("yes", "true", "1", "with", "on", "enable")


def _mirrors(environ: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    pairs = []
    for word in environ.get(ENV_MIRRORS, "").split():
        old, equals, new = word.partition("=")
        if not equals or not old.startswith(_SCHEMES) or (new and not new.startswith(_SCHEMES)):
            raise errors.UsageError(
                f"{ENV_MIRRORS} has {masked(word)!r}",
                remedy="write FROM=TO with two http or https addresses, or FROM= to leave one out",
            )
        pairs.append((old.rstrip("/") + "/", new.rstrip("/") + "/" if new else ""))
    return sorted(pairs, key=lambda pair: -len(pair[0]))


def _mirrored(uri: str, mirrors: Sequence[tuple[str, str]]) -> str | None:
    for old, new in mirrors:
        if uri.startswith(old):
            return new + uri.removeprefix(old) if new else None
    return uri
