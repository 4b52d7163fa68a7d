"""The files of NVIDIA's driver that programs in an image need, found under a driver root.

An image brings no driver: its libraries must be of the version of the node's kernel module. Layouts: a driver
installed on the node (Debian, Ubuntu, Red Hat and their kin), one under another root (the GPU operator's
/run/nvidia/driver), WSL and Jetson. 32-bit libraries are left out, and what is no library of this machine.

Sources: NVIDIA/nvidia-container-toolkit pkg/nvcdi (driver-nvml.go, driver-wsl.go) and internal/discover;
glibc sysdeps/generic/dl-cache.h; glibc's and Debian's slibdir for the folders that a loader looks into.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from gpuyard.elf import AARCH64, X86_64, Elf, read_elf_file
from gpuyard.regular_files import read_regular

#: Where the loaders of Red Hat's and SUSE's glibc look without being told; Debian's looks into its own.
LIB64 = "/usr/lib64"
_MULTIARCH = {X86_64: "/usr/lib/x86_64-linux-gnu", AARCH64: "/usr/lib/aarch64-linux-gnu"}
_MACHINES = {"x86_64": X86_64, "aarch64": AARCH64}
#: Folders with nothing but the driver's libraries, whose names have no version of it: WSL, JetPack 5 and 6.
_OWN_FOLDERS = ("/usr/lib/wsl/lib", "/usr/lib/aarch64-linux-gnu/tegra", "/usr/lib/aarch64-linux-gnu/nvidia")
#: What WSL's libraries load by its path.
_WSL_STORE = "/usr/lib/wsl/drivers"
_FOLDERS = (
    *_MULTIARCH.values(),
    *(LIB64, "/lib64", "/usr/lib", "/lib", "/usr/lib64/nvidia", "/usr/lib/nvidia"),
    *("/usr/local/lib", "/usr/local/nvidia/lib64"),
    *("/usr/lib/x86_64-linux-gnu/nvidia/current", "/usr/lib/aarch64-linux-gnu/nvidia/current"),
)
_CACHE = "/etc/ld.so.cache"
_CACHE_MAGIC = b"glibc-ld.so.cache1.1"
_CACHE_HEADER = struct.Struct("<20sII20x")
_CACHE_ENTRY = struct.Struct("<iIIIQ")
#: Whoever has these has the driver's other libraries in the same folder.
NVML = "libnvidia-ml.so.1"
_SIGNS = (b"libcuda.so.1", NVML.encode())
#: Where the GPU operator's container with a driver shows its file system.
_OPERATORS = "run/nvidia/driver"
_LIBRARY_NAME = re.compile(r"lib.+\.so(?:\.[0-9.]+)?")
#: The name that compilers want, which some programs load, too.
_LINK_NAMES = {"libcuda.so.1": "libcuda.so"}
_BINARIES = (
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-persistenced",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
)
_BINARY_FOLDERS = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin", "/sbin", "/usr/lib/wsl/lib")
_FIRMWARE_FOLDERS = ("/lib/firmware/updates", "/lib/firmware")
_FIRMWARE_NAME = re.compile(r"gsp.*\.bin")
_SOCKETS = ("/run/nvidia-persistenced/socket", "/run/nvidia-fabricmanager/socket")
_MOST_LINKS = 40


@dataclass(frozen=True)
class DriverFile:
    """A file, a folder or a socket of the driver.

    Attributes:
        host_path: on the node, without links.
        container_path: where containers have it.
        is_socket: of a service of the driver.
    """

    host_path: str
    container_path: str
    is_socket: bool = False


def find_driver_files(
    root: Path, version: str, host_root: Path = Path("/"), machine: str = os.uname().machine
) -> tuple[DriverFile, ...]:
    """Everything of the driver that is there; none without its libraries.

    A library comes under its own name and its SONAME, in each folder that some distribution's loader looks
    into without being told: see docs/adr/0037.

    Args:
        root: where the driver is installed, or the GPU operator's driver is below.
        version: of the driver, e.g. `550.107.02`.
        host_root: where the node's own file system is seen; `/` on the node itself.
        machine: as of uname(1).
    """
    number = _MACHINES.get(machine)
    if number is None or not re.fullmatch(r"[0-9][0-9.]*", version):
        return ()
    tree = _DriverRoot(driver_root_in(root))
    found: dict[str, DriverFile] = {}

    def add(here: Path, container_path: str, *, is_socket: bool = False) -> None:
        path = on_host(here, host_root)
        # What JSON, or a runtime's option, can't hold is nobody's name of a driver.
        if (path + container_path).isprintable():
            found.setdefault(container_path, DriverFile(path, container_path, is_socket))

    for library, names in _libraries(tree, version, number):
        for name in names:
            for folder in (_MULTIARCH[number], LIB64):
                add(library, f"{folder}/{name}")
    if not found:
        return ()
    if (store := tree.find(_WSL_STORE)) and store.is_dir():
        add(store, _WSL_STORE)
    for name in _BINARIES:
        for folder in _BINARY_FOLDERS:
            if (program := tree.find(f"{folder}/{name}")) and _is_program(program):
                add(program, f"/usr/bin/{name}")
    for folder in _FIRMWARE_FOLDERS:
        there = tree.find(f"{folder}/nvidia/{version}")
        for name in _names(there) if there else ():
            firmware = tree.find(f"{folder}/nvidia/{version}/{name}")
            if _FIRMWARE_NAME.fullmatch(name) and firmware and firmware.is_file():
                add(firmware, f"/lib/firmware/nvidia/{version}/{name}")
    for path in _SOCKETS:
        if (socket := tree.find(path)) and socket.is_socket():
            add(socket, path, is_socket=True)
    return tuple(found.values())


def driver_root_in(root: Path) -> Path:
    """The root, or the GPU operator's below it where only that has a driver."""
    below = root / _OPERATORS
    return below if not find_libraries(root, NVML) and find_libraries(below, NVML) else root


def find_libraries(root: Path, name: str) -> list[Path]:
    """The driver's libraries of that name below a root; there may be one for 32-bit programs, too.

    Whoever loads one may follow a link that leads out of the root, too.
    """
    tree = _DriverRoot(root)
    paths = [f"{folder}/{name}" for folder in _candidates(tree)]
    found = (tree.find(path) or root / path.lstrip("/") for path in paths)
    return [path for path in found if path.exists()]


def on_host(path: Path, host_root: Path) -> str:
    """The node's own path of what is seen below `host_root`."""
    return str(Path("/") / path.relative_to(host_root)) if path.is_relative_to(host_root) else str(path)


class _DriverRoot:
    """A file system under a root: an absolute link starts there, and none leads out."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, path: str) -> Path | None:
        """Where a path leads to, without links; None when nothing is there."""
        left = [part for part in reversed(path.split("/")) if part]
        at = PurePosixPath()
        links = 0
        while left:
            part = left.pop()
            if part == "..":
                at = at.parent
                continue
            try:
                is_link = stat.S_ISLNK(os.lstat(self._root / at / part).st_mode)
                target = str((self._root / at / part).readlink()) if is_link else ""
            except OSError:
                return None
            if not is_link:
                at /= part
                continue
            links += 1
            if links > _MOST_LINKS:
                return None
            if target.startswith("/"):
                at = PurePosixPath()
            left += [each for each in reversed(target.split("/")) if each not in ("", ".")]
        return self._root / at

    def path_of(self, here: Path) -> str:
        """What `find` takes, of what it gave."""
        return str(here.relative_to(self._root))


def _libraries(tree: _DriverRoot, version: str, machine: int) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Each library with the names that it is looked for by; of the same name the first folder's."""
    own = {tree.find(folder) for folder in _OWN_FOLDERS}
    folders = dict.fromkeys(map(tree.find, _candidates(tree)))
    seen: set[str] = set()
    for folder in filter(None, folders):
        there = _names(folder)
        is_own = folder in own and any(name.startswith("libcuda.so") for name in there)
        for name in there:
            of_this_driver = is_own or name.endswith(f".so.{version}")
            if name in seen or not of_this_driver or not _LIBRARY_NAME.fullmatch(name):
                continue
            path = tree.find(tree.path_of(folder / name))
            if path is None or not (elf := _elf(path)) or not _is_of(path, machine):
                continue
            seen.add(name)
            soname = elf.soname if _LIBRARY_NAME.fullmatch(elf.soname) and "/" not in elf.soname else ""
            names = (name, soname, _LINK_NAMES.get(soname, ""))
            yield path, tuple(dict.fromkeys(filter(None, names)))


def _candidates(tree: _DriverRoot) -> Iterator[str]:
    """Folders: where the root's own loader finds the driver, then the usual ones."""
    yield from (*_cached_folders(tree), *_OWN_FOLDERS, *_FOLDERS)


def _cached_folders(tree: _DriverRoot) -> Iterator[str]:
    """Folders of the driver's libraries by the loader's cache of the root."""
    path = tree.find(_CACHE)
    try:
        content = read_regular(path) if path else b""
    except OSError:
        return
    # Older systems have a cache of an older format before it.
    start = content.find(_CACHE_MAGIC)
    if start < 0 or len(content) < start + _CACHE_HEADER.size:
        return
    _, count, _ = _CACHE_HEADER.unpack_from(content, start)
    for index in range(count):
        at = start + _CACHE_HEADER.size + index * _CACHE_ENTRY.size
        if at + _CACHE_ENTRY.size > len(content):
            return
        _, key, value, _, _ = _CACHE_ENTRY.unpack_from(content, at)
        if _text(content, start + key) in _SIGNS:
            yield os.path.dirname(os.fsdecode(_text(content, start + value)))  # noqa: PTH120


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def _text(content: bytes, at: int) -> bytes:
    return content[at : content.find(b"\0", at)] if at < len(content) else b""


def _is_of(path: Path, machine: int | None) -> bool:
    elf = _elf(path)
    return elf is not None and (elf.bits, elf.machine) == (64, machine)


def _elf(path: Path) -> Elf | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _read_elf(path, found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=512)
def _read_elf(path: Path, *_identity: int) -> Elf | None:
    # They are looked at every few seconds.
    return read_elf_file(path)


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
