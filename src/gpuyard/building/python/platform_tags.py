"""A base's platform as wheels and locks name it: tags (PEP 425, 600, 656) and marker variables (PEP 508)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.images.contents.contents import ImageContents
from gpuyard.images.oci import Platform

if TYPE_CHECKING:
    from packaging.tags import Tag

#: Taken when the base's glibc isn't known: that of the oldest distributions still in use.
LIKELY_GLIBC = 28

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
#: What glibc 2.X was called before its number was in the tag; none before 2.17 on arm64.
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST = {"x86_64": 5, "aarch64": 17}
_MUSL_MINOR = 2


def machine(platform: Platform) -> str:
    """`x86_64`; raises BuildError where wheels aren't made for it."""
    found = _MACHINES.get(platform.architecture)
    if platform.os != "linux" or found is None:
        raise errors.BuildError(
            f"there are no wheels for {platform}", remedy="build for linux/amd64 or linux/arm64"
        )
    return found


def tags(platform: Platform, contents: ImageContents) -> list[Tag]:
    """What wheels for the base may be tagged with, best first; the base must have a Python."""
    from packaging.tags import compatible_tags, cpython_tags

    assert contents.python is not None
    version, platforms = (3, contents.python.minor), list(_platform_tags(platform, contents))
    interpreter = f"cp3{contents.python.minor}"
    return [
        *cpython_tags(version, abis=[interpreter], platforms=platforms),
        *compatible_tags(version, interpreter=interpreter, platforms=platforms),
    ]


def _platform_tags(platform: Platform, contents: ImageContents) -> Iterator[str]:
    name = machine(platform)
    if contents.libc == "musl":
        for minor in range(_MUSL_MINOR, -1, -1):
            yield f"musllinux_1_{minor}_{name}"
    else:
        for minor in range(contents.libc_version[1] or LIKELY_GLIBC, _OLDEST[name] - 1, -1):
            yield f"manylinux_2_{minor}_{name}"
            if minor in _LEGACY:
                yield f"{_LEGACY[minor]}_{name}"
    yield f"linux_{name}"


def environment(platform: Platform, minor: int) -> dict[str, str]:
    """Marker variables; of Python 3.MINOR the first release, as uv takes it."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"3.{minor}.0",
        "os_name": "posix",
        "platform_machine": machine(platform),
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"3.{minor}.0",
        "python_version": f"3.{minor}",
        "sys_platform": "linux",
    }
