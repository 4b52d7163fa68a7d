"""Compiles the Python files of one wheel; run as a program by an interpreter of the version wanted.

Standard library only and no newer than Python 3.8, since that interpreter knows nothing of gpuyard.
Usage: compile_wheel.py WHEEL OUTPUT SITE_PACKAGES, with PYTHONHASHSEED=0 so that equal sources give equal
byte code. OUTPUT is a zip of .pyc files, stored, named relative to SITE_PACKAGES. They are "unchecked":
the interpreter doesn't look at a source's time or content, which in an image never change alone.

A large wheel is compiled in parts, as many at once as there are cores. Which files are in a part depends on
the wheel alone, and each part has a process of its own: byte code depends on what was compiled before it.

A wheel's own tests stay as they are: they are half of NumPy's sources and more of pandas', and nobody imports
them where it runs.
"""

import importlib.util
import marshal
import os
import posixpath
import sys
import tempfile
import warnings
import zipfile
from importlib._bootstrap_external import _code_to_hash_pyc  # type: ignore[attr-defined]

#: Bytes of sources; half a second's work.
_PART_BYTES = 1 << 20


def main(wheel: str, output: str, site_packages: str) -> None:
    """Writes the zip; files that this interpreter can't compile (templates, other versions) are left out."""
    warnings.simplefilter("ignore")
    with zipfile.ZipFile(wheel) as source:
        parts = _parts(source)
    files = [tempfile.TemporaryFile(dir=posixpath.dirname(output)) for _ in parts]  # noqa: SIM115
    parent, running = os.getpid(), 0
    for names, file in zip(parts, files):  # noqa: B905
        if running == (os.cpu_count() or 1):
            _wait()
            running -= 1
        if os.fork() == 0:
            marshal.dump(_compiled(wheel, names, site_packages, parent), file)
            file.flush()
            os._exit(0)
        running += 1
    for _ in range(running):
        _wait()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as target:
        for file in files:
            file.seek(0)
            for name, pyc in marshal.load(file):  # noqa: S302
                target.writestr(zipfile.ZipInfo(name), pyc)


def _parts(source: zipfile.ZipFile) -> list:  # type: ignore[type-arg]
    """Lists of names."""
    found = []  # type: ignore[var-annotated]
    size = _PART_BYTES
    for name in sorted(filter(_place, source.namelist())):
        if size >= _PART_BYTES:
            found.append([])
            size = 0
        found[-1].append(name)
        size += source.getinfo(name).file_size
    return found


def _wait() -> None:
    """For one part; ends this process where that failed, which has said why."""
    _, status = os.wait()
    if status:
        sys.exit(1)


def _compiled(wheel: str, names: list, site_packages: str, parent: int) -> list:  # type: ignore[type-arg]
    """Pairs of a path and its byte code; stops when its parent was stopped."""
    tag = sys.implementation.cache_tag
    found = []
    with zipfile.ZipFile(wheel) as source:
        for name in names:
            if os.getppid() != parent:
                os._exit(1)
            place = _place(name)
            content = source.read(name)
            try:
                code = compile(content, posixpath.join(site_packages, place), "exec", dont_inherit=True)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            folder, file = posixpath.split(place)
            cached = posixpath.join(folder, "__pycache__", f"{file[:-3]}.{tag}.pyc")
            found.append((cached, _code_to_hash_pyc(code, importlib.util.source_hash(content), False)))
    return found


def _place(name: str) -> str:
    """Where a member of a wheel goes below site-packages; empty when it isn't compiled or goes elsewhere."""
    if not name.endswith(".py") or "tests" in name.split("/"):
        return ""
    top, _, rest = name.partition("/")
    if top.endswith(".data"):
        scheme, _, inner = rest.partition("/")
        return inner if scheme in ("purelib", "platlib") else ""
    return name


if __name__ == "__main__":
    main(*sys.argv[1:])
