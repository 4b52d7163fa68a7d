"""Files that the scripts of a few packages would write, and without which these are of no use."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from gpuyard.building.system_packages.unpacking import certificates
from gpuyard.building.system_packages.unpacking.deb import Deb, ForwardTar
from gpuyard.images.layers import Entry

_GRAPHVIZ = "libgvc6"
#: What `dot -c` of this version writes, for all plugins that Debian and Ubuntu have in that package.
_GRAPHVIZ_VERSION, _GRAPHVIZ_CONFIG = "2.42.", "config6a"
_GRAPHVIZ_PLUGINS = Path(__file__).with_name("graphviz_plugins.txt")


def made_for(debs: Mapping[str, Deb], base: Collection[str]) -> frozenset[str]:
    """Packages whose scripts' work is done here.

    Args:
        debs: by package name.
        base: names of the base's packages; what these made is left as it is.
    """
    found = {certificates.PACKAGE} & debs.keys() - set(base)
    graphviz = debs.get(_GRAPHVIZ)
    if graphviz and graphviz.fields.get("version", "").startswith(_GRAPHVIZ_VERSION):
        found.add(_GRAPHVIZ)
    return frozenset(found)


def made_entries(
    names: Collection[str],
    debs: Mapping[str, Deb],
    open_tar: Callable[[str], AbstractContextManager[ForwardTar]],
    real: Callable[[str], str],
) -> Iterator[Entry]:
    """What the scripts would have written.

    Args:
        names: by `made_for`.
        debs: by package name.
        open_tar: opens a package's files.
        real: gives a path with the base's links followed.
    """
    if certificates.PACKAGE in names:
        deb = debs[certificates.PACKAGE]
        with open_tar(certificates.PACKAGE) as tar:
            found = {
                m.path: b"".join(tar.pieces(m.offset, m.size))
                for m in deb.members
                if certificates.is_certificate(m.path)
            }
        yield from certificates.certificate_entries(found)
    if _GRAPHVIZ in names:
        plugins = (m.path for m in debs[_GRAPHVIZ].members if "/libgvplugin_core.so" in m.path)
        folder = posixpath.dirname(next(plugins, "usr/lib/graphviz/x"))
        yield Entry.of_bytes(f"{real(folder)}/{_GRAPHVIZ_CONFIG}", _GRAPHVIZ_PLUGINS.read_bytes())
