"""Machines with AMD GPUs: their /sys as the files beside their tests have it, and device nodes in /dev."""

from __future__ import annotations

from pathlib import Path

_RECORDS = Path(__file__).parent / "unit/devices/amd"


class AmdMachine:
    """A machine's /sys and /dev below a folder.

    Attributes:
        sys_root: its /sys.
        host_root: its /.
    """

    def __init__(self, record: str, root: Path) -> None:
        self.host_root = root
        self.sys_root = root / "sys"
        for line in (_RECORDS / f"{record}.sysfs").read_text().splitlines():
            if line.startswith("#"):
                continue
            path, arrow, target = line.partition(" -> ")
            if arrow:
                link = self.sys_root / path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(self.sys_root / target)
            else:
                path, _, content = line.partition(": ")
                self.write(path.removesuffix(":"), content.replace(" | ", "\n"))
        (root / "dev/dri").mkdir(parents=True)
        (root / "dev/kfd").touch()
        for node in (self.sys_root / "class/drm").iterdir():
            (root / "dev/dri" / node.name).touch()

    def write(self, path: str, content: str) -> None:
        """Gives an attribute below /sys another content."""
        file = self.sys_root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n")
