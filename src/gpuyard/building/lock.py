"""gpuyard.lock: the base by digest and the wheels by hash, per platform. Made to be committed and read.

It changes only when the requirements or the base's name change, a platform is added, or on --upgrade.
It holds no addresses: where a wheel is, is the index's business. Only of one that is a file here, it says so.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.atomic_files import replace_file, unfinished_file
from gpuyard.building.python.wheels import Wheel
from gpuyard.building.system_packages.locked import SystemPackage
from gpuyard.images.oci import Digest, parse_digest
from gpuyard.regular_files import read_regular

NAME = "gpuyard.lock"
_VERSION = 1
_HEADER = """\
# Made by `gpuyard build`, to be committed: the same lock and files make the same image.
# `gpuyard build --upgrade` makes it anew.
"""


def lock_name(spec: str) -> str:
    """The name of a spec's lock, which lies beside it: of gpuyard.yaml the folder's, of another its own.

    Args:
        spec: name of the spec's file.
    """
    name = re.sub(r"\.ya?ml$", "", spec)
    return NAME if name == "gpuyard" else f"gpuyard.{name}.lock"


def lock_names(folder: Path) -> list[str]:
    """The names of all locks in a folder, and of the one that may come: none goes into an image."""
    return [NAME, *(path.name for path in folder.glob("gpuyard.*.lock"))]


@dataclass(frozen=True)
class PlatformLock:
    """What one platform's image is made of.

    Attributes:
        base_digest: of the base's manifest for this platform.
        python: of the base, such as 3.11; empty without requirements.
        from_base: name → version of what the requirements name and the base brings.
        wheels: sorted.
        byte_code: what compiled them where the lock was made, such as cpython 3.11.2, or none.
        copied: digest of the manifest of each image that files are copied from, by its name.
        system_packages: sorted.
        distribution: whose they are, such as debian; empty without any.
    """

    base_digest: Digest
    python: str = ""
    from_base: Mapping[str, str] = field(default_factory=dict, hash=False)
    wheels: tuple[Wheel, ...] = ()
    byte_code: str = ""
    copied: Mapping[str, Digest] = field(default_factory=dict, hash=False)
    system_packages: tuple[SystemPackage, ...] = ()
    distribution: str = ""


@dataclass(frozen=True)
class Lock:
    """The whole file.

    Attributes:
        base: the base's reference as the user named it.
        base_digest: what that was when it was locked: an index or a manifest.
        requirements: digest of the requirements' text, empty without any.
        platforms: by name, such as linux/amd64.
        system_packages: what was asked for of them, in the user's words, sorted.
    """

    base: str
    base_digest: Digest
    requirements: str
    platforms: Mapping[str, PlatformLock]
    system_packages: tuple[str, ...] = ()

    def to_text(self) -> str:
        """TOML, the same for equal locks."""
        lines = [
            _HEADER,
            f"version = {_VERSION}",
            f"base = {_quoted(self.base)}",
            f"base-digest = {_quoted(self.base_digest)}",
            f"requirements = {_quoted(self.requirements)}",
        ]
        if self.system_packages:
            lines.append(f"system-packages = [{', '.join(map(_quoted, self.system_packages))}]")
        for name, platform in sorted(self.platforms.items()):
            lines += [
                "",
                "[[platform]]",
                f"name = {_quoted(name)}",
                f"base-digest = {_quoted(platform.base_digest)}",
            ]
            if platform.python:
                lines.append(f"python = {_quoted(platform.python)}")
            if platform.from_base:
                pairs = (f"{_quoted(n)} = {_quoted(v)}" for n, v in sorted(platform.from_base.items()))
                lines.append(f"from-base = {{ {', '.join(pairs)} }}")
            if platform.byte_code:
                lines.append(f"byte-code = {_quoted(platform.byte_code)}")
            if platform.copied:
                pairs = (f"{_quoted(n)} = {_quoted(d)}" for n, d in sorted(platform.copied.items()))
                lines.append(f"copied = {{ {', '.join(pairs)} }}")
            if platform.wheels:
                lines.append("wheels = [")
                lines += [f"  {_wheel_line(wheel)}," for wheel in sorted(platform.wheels)]
                lines.append("]")
            if platform.distribution:
                lines.append(f"distribution = {_quoted(platform.distribution)}")
            if platform.system_packages:
                lines.append("system-packages = [")
                lines += [f"  {package.to_toml()}," for package in platform.system_packages]
                lines.append("]")
        return "\n".join(lines) + "\n"


def _wheel_line(wheel: Wheel) -> str:
    path = f", path = {_quoted(wheel.path)}" if wheel.path else ""
    source = f", source = {_quoted(wheel.source)}" if wheel.source else ""
    return f'{{ file = "{wheel.file}", size = {wheel.size}, sha256 = "{wheel.sha256}"{path}{source} }}'


def _quoted(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)


def read_lock(path: Path) -> Lock | None:
    """The lock; None when there is no file.

    Raises:
        UsageError: it can't be read, or something in it is wrong.
    """
    try:
        text = read_regular(path).decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't text in UTF-8"
        raise errors.UsageError(f"can't read {path}: {reason}", remedy="mend or remove the file") from error
    try:
        raw = tomllib.loads(text)
        if raw["version"] != _VERSION:
            raise errors.UsageError(
                f"{path} is of version {raw['version']}, and this gpuyard reads {_VERSION}",
                remedy="upgrade gpuyard, or remove the file to lock anew",
            )
        return Lock(
            str(raw["base"]),
            parse_digest(raw["base-digest"]),
            str(raw["requirements"]),
            {str(platform["name"]): _platform(platform) for platform in raw.get("platform", ())},
            tuple(map(str, raw.get("system-packages", ()))),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise errors.UsageError(
            f"{path} can't be read as a lock: {what}", remedy="restore it, or remove it to lock anew"
        ) from error
    except errors.ImageError as error:
        raise errors.UsageError(
            f"{path}: {error.message}", remedy="restore it, or lock anew with --upgrade"
        ) from error


def _platform(raw: Mapping[str, Any]) -> PlatformLock:
    return PlatformLock(
        parse_digest(raw["base-digest"]),
        str(raw.get("python", "")),
        dict(raw.get("from-base", {})),
        tuple(
            Wheel(
                str(wheel["file"]),
                str(wheel.get("sha256", "")),
                int(wheel.get("size", 0)),
                str(wheel.get("path", "")),
                str(wheel.get("source", "")),
            )
            for wheel in raw.get("wheels", ())
        ),
        str(raw.get("byte-code", "")),
        {str(name): parse_digest(digest) for name, digest in raw.get("copied", {}).items()},
        tuple(map(SystemPackage.of, raw.get("system-packages", ()))),
        str(raw.get("distribution", "")),
    )


def check_writable(path: Path) -> None:
    """Whether the lock could be written; raises UsageError before a build has worked for nothing."""
    try:
        with unfinished_file(path.parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


def write_lock(path: Path, lock: Lock) -> None:
    """Replaces the file at once; raises UsageError when the folder can't be written."""
    try:
        umask = os.umask(0)
        os.umask(umask)
        replace_file(path, lock.to_text().encode(), mode=0o666 & ~umask)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> errors.UsageError:
    return errors.UsageError(
        f"can't write {path}: {error.strerror}",
        remedy="make the folder writable, or take a lock as it is with --frozen",
    )


def requirements_digest(texts: Iterable[bytes]) -> str:
    """What tells requirements apart: a hash of the files' bytes, in order."""
    sha256 = hashlib.sha256()
    for text in texts:
        sha256.update(len(text).to_bytes(8) + text)
    return f"sha256:{sha256.hexdigest()}"
