"""What a new lock changes, in words."""

from __future__ import annotations

from collections.abc import Sequence

from gpuyard.building.lock import Lock, PlatformLock
from gpuyard.building.python.wheels import Wheel
from gpuyard.building.system_packages.locked import SystemPackage


def changes(old: PlatformLock | None, new: PlatformLock) -> Sequence[str]:
    """What a new lock changes, in words: `numpy 1.26.4 → 2.0.0`, `mine 1.0 (another file)`."""
    before, after = _by_name(old), _by_name(new)
    words = []
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is None:
            words.append(f"+ {name} {after[name].version}")
        elif now is None:
            words.append(f"- {name} {was.version}")
        elif was.version != now.version:
            words.append(f"{name} {was.version} → {now.version}")
        elif was.sha256 != now.sha256:
            words.append(f"{name} {now.version} (another file)")
    copied = old.copied if old else {}
    for name in sorted(copied.keys() | new.copied.keys()):
        digests = [digest[7:19] for images in (copied, new.copied) if (digest := images.get(name))]
        if copied.get(name) != new.copied.get(name):
            words.append(f"{name} {' → '.join(digests)}")
    return words


def _by_name(lock: PlatformLock | None) -> dict[str, Wheel | SystemPackage]:
    if lock is None:
        return {}
    wheels: dict[str, Wheel | SystemPackage] = {wheel.name: wheel for wheel in lock.wheels}
    return wheels | {package.name: package for package in lock.system_packages}


def lock_news(old: Lock | None, new: Lock, reason: str) -> str:
    """What is new in a lock, in words: why, and the first of its changes."""
    words: list[str] = []
    for name, platform in new.platforms.items():
        was = old.platforms.get(name) if old else None
        if was is None and old is not None:
            words.append(f"+ {name}")
        elif was is not None:
            words += changes(was, platform)
            if was.base_digest != platform.base_digest:
                words.append(f"base {was.base_digest[7:19]} → {platform.base_digest[7:19]}")
    more = ", …" if words[20:] else ""
    return ": ".join(part for part in (reason, ", ".join(words[:20]) + more) if part)
