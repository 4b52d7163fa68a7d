"""The ways to tell what runs a container which devices it gets, and which of them suit a node (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DeviceList(StrEnum):
    """One way; the values are those of NVIDIA's DEVICE_LIST_STRATEGY, and `device-specs`.

    ENVVAR: NVIDIA_VISIBLE_DEVICES, which NVIDIA's runtime reads.
    VOLUME_MOUNTS: mounts of a name each, which it reads as well; unlike a variable, no image can bring them.
    DEVICE_SPECS: the device nodes themselves, which every runtime knows.
    CDI_CRI: CDI names in the kubelet's request; kubelet 1.29 or later passes them on.
    CDI_ANNOTATIONS: CDI names in an annotation, which older kubelets pass on as well.
    """

    ENVVAR = "envvar"
    VOLUME_MOUNTS = "volume-mounts"
    DEVICE_SPECS = "device-specs"
    CDI_CRI = "cdi-cri"
    CDI_ANNOTATIONS = "cdi-annotations"


CDI_LISTS = frozenset({DeviceList.CDI_CRI, DeviceList.CDI_ANNOTATIONS})


@dataclass(frozen=True)
class Handover:
    """How devices are named to what runs containers.

    Attributes:
        lists: all ways that are used.
        by_index: whether NVIDIA_VISIBLE_DEVICES has indexes in the place of UUIDs.
        checks_starts: whether a container isn't started on a device that can't be used by then.
    """

    lists: frozenset[DeviceList]
    by_index: bool = False
    checks_starts: bool = False


#: Without a CDI spec.
PLAIN = Handover(frozenset({DeviceList.ENVVAR, DeviceList.DEVICE_SPECS}))


def suitable_lists(*, has_cdi: bool, mounts_name_devices: bool) -> frozenset[DeviceList]:
    """What suits a node when nothing else is said.

    Device nodes are named both ways: a runtime that knows CDI takes each once, one that doesn't has them too.

    Args:
        has_cdi: whether there is a CDI spec.
        mounts_name_devices: whether NVIDIA's runtime takes names by mounts; as a rule it takes none by a
            variable then.
    """
    named = DeviceList.VOLUME_MOUNTS if mounts_name_devices else DeviceList.ENVVAR
    return frozenset({named, DeviceList.DEVICE_SPECS} | ({DeviceList.CDI_CRI} if has_cdi else set()))
