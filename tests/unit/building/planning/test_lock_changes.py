from __future__ import annotations

from gpuyard.building.lock import PlatformLock
from gpuyard.building.planning.lock_changes import changes
from gpuyard.building.python.wheels import Wheel
from gpuyard.images.oci import Digest

DIGEST = Digest("sha256:" + "a" * 64)


def test_changes_are_told_by_name() -> None:
    def locked(*pairs: tuple[str, str]) -> PlatformLock:
        made = (Wheel(f"{name}-{version}-py3-none-any.whl", "a" * 64) for name, version in pairs)
        return PlatformLock(DIGEST, wheels=tuple(made))

    old, new = locked(("a", "1"), ("b", "1"), ("c", "1")), locked(("b", "2"), ("c", "1"), ("d", "1"))
    assert changes(old, new) == ["- a 1", "b 1 → 2", "+ d 1"]
    assert changes(None, new) == ["+ b 2", "+ c 1", "+ d 1"]
