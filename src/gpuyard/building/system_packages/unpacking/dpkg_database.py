"""dpkg's and apt's databases with the chosen packages in them: what `dpkg -l`, `dpkg -V` and `apt` read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from gpuyard.building.system_packages.control import parse_fields, split_paragraphs
from gpuyard.building.system_packages.unpacking.deb import Deb

STATUS = "var/lib/dpkg/status"
STATUS_FOLDER = "var/lib/dpkg/status.d/"
_INFO = "var/lib/dpkg/info/"
_TRIGGERS = "var/lib/dpkg/triggers/"
_STATES = "var/lib/apt/extended_states"
#: A file, or a name that becomes a file's.
_TRIGGER = re.compile(r"/\S+|[A-Za-z0-9][\w+.:@-]*", re.ASCII)
_SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")


def status_paragraphs(base: Mapping[str, bytes]) -> list[str]:
    """Every package that the base's database knows, from dpkg's file or from those of bases without dpkg."""
    texts = [base.get(STATUS, b"")]
    texts += [
        content
        for path, content in sorted(base.items())
        if path.startswith(STATUS_FOLDER) and not path.endswith(".md5sums")
    ]
    return [each for text in texts for each in split_paragraphs(text.decode("utf-8", "surrogateescape"))]


def database_files(
    base: Mapping[str, bytes],
    debs: Mapping[str, Deb],
    asked: Collection[str],
    taken: Mapping[str, Collection[str]],
    arch: str,
) -> Iterator[tuple[str, bytes, int]]:
    """Files of the databases: path without a leading slash, content and mode.

    Args:
        base: files of the base, by path without a leading slash.
        debs: the new packages by name.
        asked: those of them that the user named; others are marked as brought by them.
        taken: package of the base, as dpkg's lists name it → what of its files another one has now.
        arch: Debian's name of the architecture.
    """
    if any(path.startswith(STATUS_FOLDER) for path in base) and not base.get(STATUS, b"").strip():
        for name, deb in debs.items():
            yield STATUS_FOLDER + name, _bytes(deb.control.rstrip("\n") + "\n"), 0o644
            if sums := deb.extra.get("md5sums"):
                yield f"{STATUS_FOLDER}{name}.md5sums", _bytes(sums), 0o644
        return
    yield STATUS, _bytes(_status(base, debs, arch)), 0o644
    for name, deb in debs.items():
        stem = _stem(name, deb, arch)
        listed = ["/."] + ["/" + m.path for m in deb.members if m.path]
        yield f"{_INFO}{stem}.list", _bytes("\n".join(listed) + "\n"), 0o644
        for kind, text in sorted(deb.extra.items()):
            yield f"{_INFO}{stem}.{kind}", _bytes(text), 0o755 if kind in _SCRIPTS else 0o644
    for owner, paths in sorted(taken.items()):
        lines = base[f"{_INFO}{owner}.list"].decode("utf-8", "surrogateescape").splitlines()
        left = [line for line in lines if line.strip("/") not in paths]
        yield f"{_INFO}{owner}.list", _bytes("\n".join(left) + "\n"), 0o644
    yield from _triggers(base, debs, arch)
    yield _STATES, _bytes(_extended_states(base, debs, asked, arch)), 0o644


def _status(base: Mapping[str, bytes], debs: Mapping[str, Deb], arch: str) -> str:
    """The base's paragraphs without those that are replaced, and the new ones."""
    kept = []
    for paragraph in split_paragraphs(base.get(STATUS, b"").decode("utf-8", "surrogateescape")):
        fields = parse_fields(paragraph)
        if fields.get("package") in debs and fields.get("architecture") in (arch, "all"):
            continue
        kept.append(paragraph)
    return "\n\n".join([*kept, *map(_paragraph, debs.values())]) + "\n\n"


def _paragraph(deb: Deb) -> str:
    first, *rest = deb.control.strip("\n").splitlines()
    # The name is the first field but in packages that nobody's tools made.
    lines = [first, "Status: install ok installed", *rest]
    if deb.conffiles:
        lines += ["Conffiles:", *(f" /{path} {md5}" for path, md5 in sorted(deb.conffiles.items()))]
    return "\n".join(lines)


def _stem(name: str, deb: Deb, arch: str) -> str:
    """As dpkg calls a package that may be there for two architectures, and others."""
    return f"{name}:{arch}" if deb.fields.get("multi-arch") == "same" else name


def _triggers(
    base: Mapping[str, bytes], debs: Mapping[str, Deb], arch: str
) -> Iterator[tuple[str, bytes, int]]:
    """Who is interested in which files and names, for packages that are installed in a container later."""
    texts: dict[str, list[str]] = {}
    for name, deb in debs.items():
        for line in deb.extra.get("triggers", "").splitlines():
            match line.partition("#")[0].split():
                case [directive, what] if directive.startswith("interest") and _TRIGGER.fullmatch(what):
                    who = _stem(name, deb, arch)
                    noawait = "/noawait" if directive == "interest-noawait" else ""
                    path = _TRIGGERS + ("File" if what.startswith("/") else what)
                    said = f"{what} {who}{noawait}" if what.startswith("/") else who + noawait
                    texts.setdefault(path, _lines(base.get(path, b"")))
                    texts[path] = [each for each in texts[path] if each != said] + [said]
    for path, lines in sorted(texts.items()):
        yield path, _bytes("\n".join(lines) + "\n"), 0o644


def _extended_states(
    base: Mapping[str, bytes], debs: Mapping[str, Deb], asked: Collection[str], arch: str
) -> str:
    """What apt would remove again when nobody needs it (apt-mark(8))."""
    kept = [
        paragraph
        for paragraph in split_paragraphs(base.get(_STATES, b"").decode("utf-8", "replace"))
        if parse_fields(paragraph).get("package") not in asked
    ]
    known = {parse_fields(paragraph).get("package") for paragraph in kept}
    replaced = {parse_fields(paragraph).get("package") for paragraph in status_paragraphs(base)}
    new = [
        f"Package: {name}\nArchitecture: {arch}\nAuto-Installed: 1"
        for name in debs
        if name not in asked and name not in known and name not in replaced
    ]
    return "\n\n".join([*kept, *new, ""])


def _lines(content: bytes) -> list[str]:
    return content.decode("utf-8", "surrogateescape").splitlines()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
