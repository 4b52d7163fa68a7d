"""Images of containers: which one a name means, pulls by the container's policy, back-off after failures."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from weakref import WeakValueDictionary

from gpuyard import errors
from gpuyard.images.reference import ImageReference
from gpuyard.local.kubelet.back_off import BackOff
from gpuyard.local.runtime.podman.host import Podman, PodmanImage

#: An OCI image layout on this host, in place of a registry: `oci:/folder` or `oci:/folder:tag`.
LAYOUT = "oci:"
_ALWAYS, _NEVER = "Always", "Never"


class Images:
    """Gets images for all pods; one at a time for each name, others beside it."""

    def __init__(self, podman: Podman) -> None:
        self._podman = podman
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def get(self, name: str, policy: str) -> PodmanImage:
        """The image, pulled when the policy says so. A layout is looked at again each time.

        Args:
            name: as in a pod's `image`.
            policy: `imagePullPolicy`.

        Raises:
            CannotGet: with the reason that a kubelet would show.
        """
        try:
            await self._podman.ready()
        except errors.ImageError as error:
            raise CannotGet("CreateContainerError", error.in_one_line) from error
        reference, plain_http = resolve_name(name)
        async with self._locks.setdefault(reference, asyncio.Lock()):
            try:
                image = None
                if policy != _ALWAYS and not (name.startswith(LAYOUT) and policy != _NEVER):
                    image = await self._podman.find_image(reference)
                if image is not None:
                    return image
                if policy != _NEVER:
                    return await self._podman.pull(reference, plain_http=plain_http)
            except errors.ImageError as error:
                raise CannotGet("ErrImagePull", error.in_one_line) from error
        raise CannotGet(
            "ErrImageNeverPull", f'Container image "{name}" is not present with pull policy of Never'
        )


class CannotGet(errors.ImageError):
    """An image isn't to be had for now.

    Attributes:
        reason: of the container's waiting state.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class Pull:
    """What is known of the image of one container's next start.

    Attributes:
        image: of the next start once `is_due` is False; else of the last one.
        is_due: whether the next start has to get it.
        task: the pull that is on its way.
        failures: in a row.
        error: of the last one.
        retry_at_s: no pull before this, on a steady clock.
    """

    image: PodmanImage | None = None
    is_due: bool = True
    task: asyncio.Task[None] | None = None
    failures: int = 0
    error: CannotGet | None = None
    retry_at_s: float = 0.0

    def succeeded(self, image: PodmanImage) -> None:
        """It is there."""
        self.image, self.is_due, self.task = image, False, None
        self.failures, self.error = 0, None

    def failed(self, error: CannotGet, back_off: BackOff, now_s: float) -> None:
        """It couldn't be had; the next try comes later each time."""
        self.task = None
        self.failures += 1
        self.error = error
        self.retry_at_s = now_s + back_off.delay_s(self.failures + 1)

    def backed_off(self, name: str, now_s: float) -> tuple[str, str] | None:
        """Reason and message while it is too early for the next try."""
        if self.error is None or self.retry_at_s <= now_s:
            return None
        if self.error.reason != "ErrImagePull":
            return (self.error.reason, self.error.message)
        return (
            "ImagePullBackOff",
            f'Back-off pulling image "{name}": {self.error.reason}: {self.error.message}',
        )


def resolve_name(name: str) -> tuple[str, bool]:
    """The full name as podman needs it, and whether its registry may be one without TLS.

    Raises:
        CannotGet: it names no image.
    """
    if name.startswith(LAYOUT):
        if not name.removeprefix(LAYOUT).startswith("/"):
            raise CannotGet("InvalidImageName", f'"{name}": the layout\'s folder has to be an absolute path')
        return name, False
    try:
        reference = ImageReference.parse(name)
    except errors.ImageReferenceError as error:
        raise CannotGet("InvalidImageName", error.message) from error
    full = f"{reference.name}@{reference.digest}" if reference.digest else f"{reference.name}:{reference.tag}"
    return full, _is_loopback(reference.registry)


def _is_loopback(registry: str) -> bool:
    host = registry.rpartition(":")[0] if registry.rpartition(":")[2].isdecimal() else registry
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
