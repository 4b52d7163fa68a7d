"""Packages that can't work in an image, with the reason."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpuyard import errors

_DRIVER = (
    "the driver belongs to the node: its libraries come into the container when it starts, and others clash"
)
_KERNEL = "the kernel is the node's, and no container brings one of its own"
_SYSTEMD = "no system manager runs in a container of a run"
_REFUSED: tuple[tuple[str, str], ...] = (
    (r"nvidia-(?:driver|kernel|dkms|utils|compute-utils|headless|open|modprobe|persistenced)\b.*", _DRIVER),
    (r"(?:xserver-xorg-video-nvidia|nvidia-(?:alternative|smi|opencl-icd|vulkan-icd))\b.*", _DRIVER),
    (
        r"libcuda1|libnvidia-(?:ml1?|compute|gl|cfg1|decode|encode|fbc1|common|extra|ptxjitcompiler1)\b.*",
        _DRIVER,
    ),
    (r"cuda-drivers?\b.*", _DRIVER),
    (r"linux-(?:image|modules|headers|generic|lowlatency|virtual)\b.*|.*-dkms|dkms", _KERNEL),
    (r"grub-.*|shim-signed|initramfs-tools|dracut", _KERNEL),
    (
        r"systemd-sysv|sysvinit-core|openssh-server|docker\.io|docker-ce|containerd\.io|snapd|lxd|cron",
        _SYSTEMD,
    ),
)
_REMEDY = {
    _DRIVER: "leave it out; the CUDA toolkit's libraries come with wheels (nvidia-*), or with the base",
    _KERNEL: "leave it out; who runs the nodes installs it there",
    _SYSTEMD: "leave it out: a run has one program, and others reach it through its logs and ports",
}


def refuse(name: str, chain: Sequence[str]) -> None:
    """Raises ResolveError for a package that can't work in an image.

    Args:
        name: of the package.
        chain: how it came in, from what was asked for to itself.
    """
    for pattern, reason in _REFUSED:
        # What others bring along does no harm as long as nobody starts it: GTK brings systemd.
        if re.fullmatch(pattern, name) and (reason != _SYSTEMD or len(chain) == 1):
            whole = " → ".join(chain)
            raise errors.ResolveError(
                f"the system package {whole} isn't installed into images: {reason}", remedy=_REMEDY[reason]
            )
