"""Which devices a pod's containers hold, as its annotation tells: for when the checkpoint is lost (pure)."""

from __future__ import annotations

from collections.abc import Mapping

from gpuyard.kube.objects import Manifest, annotations_of
from gpuyard.kube.wellknown import ANNOTATION_DEVICES
from gpuyard.local.kubelet.containers import device_requests


def told_devices(pod: Manifest) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Container → resource → ids; empty for a pod that was given none.

    The annotation has the ids of the whole pod, in the order of its containers. Where it can't tell which
    are whose, as with init containers of their own devices, a container gets too many rather than too few:
    what it holds isn't given to others.
    """
    ids = [one for one in (annotations_of(pod).get(ANNOTATION_DEVICES) or "").split(",") if one]
    wanting = [(one["name"], device_requests(one)) for one in pod["spec"]["containers"]]
    wanting = [(name, wanted) for name, wanted in wanting if any(wanted.values())]
    held: dict[str, dict[str, tuple[str, ...]]] = {}
    for number, (name, wanted) in enumerate(wanting, start=1):
        share = len(ids) if number == len(wanting) or len(wanted) > 1 else sum(wanted.values())
        if ids:
            held[name] = {resource: tuple(sorted(ids[:share])) for resource, count in wanted.items() if count}
        ids = ids if len(wanted) > 1 else ids[share:]
    return held
