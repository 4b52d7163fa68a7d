"""Compiles the Python files of one wheel; run as a program by an interpreter of the version wanted.

Standard library only and no newer than Python 3.8, since that interpreter knows nothing of gpuyard.
Usage: compile_wheel.py WHEEL OUTPUT SITE_PACKAGES, with PYTHONHASHSEED=0 so that equal sources give equal
byte code. OUTPUT is a zip of .pyc files, stored, named relative to SITE_PACKAGES. They are "unchecked":
the interpreter doesn't look at a source's time or content, which in an image never change alone.
"""

import importlib.util
import posixpath
import sys
import warnings
import zipfile
from importlib._bootstrap_external import _code_to_hash_pyc  # type: ignore[attr-defined]


def main(wheel: str, output: str, site_packages: str) -> None:
    """Writes the zip; files that this interpreter can't compile (templates, other versions) are left out."""
    warnings.simplefilter("ignore")
    tag = sys.implementation.cache_tag
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as target:
        for name in sorted(source.namelist()):
            place = _place(name)
            if not place:
                continue
            content = source.read(name)
            try:
                code = compile(content, posixpath.join(site_packages, place), "exec", dont_inherit=True)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            folder, file = posixpath.split(place)
            cached = posixpath.join(folder, "__pycache__", f"{file[:-3]}.{tag}.pyc")
            pyc = _code_to_hash_pyc(code, importlib.util.source_hash(content), False)
            target.writestr(zipfile.ZipInfo(cached), pyc)


def _place(name: str) -> str:
    """Where a member of a wheel goes below site-packages; empty when it isn't Python or goes elsewhere."""
    if not name.endswith(".py"):
        return ""
    top, _, rest = name.partition("/")
    if top.endswith(".data"):
        scheme, _, inner = rest.partition("/")
        return inner if scheme in ("purelib", "platlib") else ""
    return name


if __name__ == "__main__":
    main(*sys.argv[1:])
