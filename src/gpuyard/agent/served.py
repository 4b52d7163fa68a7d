"""What a node offers of its GPUs (pure): which devices under which resource, by the options of its agent.

A device is what the kubelet counts and gives to one container: a whole GPU, or a MIG instance of one. The CDI
spec, the labels, the metrics and the device plugins all derive from one `Served`.
Source of the MIG strategies: NVIDIA/k8s-device-plugin docs and internal/rm (`none`, `single`, `mixed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gpuyard.agent.options.sharing import Sharing
from gpuyard.devices.inventory import Device, DeviceNode, Health, Inventory, MigInstance
from gpuyard.gpus.resources import GPU_RESOURCE, mig_resource, model_resource, whole_gpus
from gpuyard.kube.wellknown import NVIDIA

_UNOFFERED = "is split, and its parts aren't offered: use the MIG strategy mixed, or make it whole"


class MigStrategy(StrEnum):
    """What becomes of GPUs that are split.

    NONE: every GPU is offered whole, split or not; see `Serving.split_whole`.
    SINGLE: all GPUs are split alike, and their parts are offered as if they were GPUs.
    MIXED: parts have a resource for each profile, beside the GPUs that are whole.
    """

    NONE = "none"
    SINGLE = "single"
    MIXED = "mixed"


class ModelNames(StrEnum):
    """Whether GPUs are offered by their model, as `nvidia.com/h100`."""

    NO = "no"
    INSTEAD = "instead"


@dataclass(frozen=True)
class Serving:
    """How a node's GPUs are to be offered.

    Attributes:
        mig_strategy: what becomes of GPUs that are split.
        sharing: the first rule that is about a device counts; one that no rule is about is one container's.
        model_names: whether whole GPUs are offered by their model.
        packed: whether parts and replicas come from the GPU that has the most in use; else from the one that
            has the fewest.
        split_whole: whether the strategy `none` offers a split GPU, as NVIDIA's device plugin does.
    """

    mig_strategy: MigStrategy = MigStrategy.NONE
    sharing: tuple[Sharing, ...] = ()
    model_names: ModelNames = ModelNames.NO
    packed: bool = False
    split_whole: bool = True


#: As NVIDIA's device plugin without options.
DEFAULT = Serving()


@dataclass(frozen=True)
class ServedDevice:
    """What one container gets.

    Attributes:
        id: as the kubelet knows it.
        resource: what pods ask for to get it.
        gpu: the GPU that it is, or is a part of.
        instance: the part; None for a whole GPU.
        replica: which of several containers that share it; None when it is one container's alone.
        sharing: by which rule it is shared; None when it isn't.
    """

    id: str
    resource: str
    gpu: Device
    instance: MigInstance | None = None
    replica: int | None = None
    sharing: Sharing | None = None

    @property
    def uuid(self) -> str:
        """The driver's id of it."""
        return self.instance.uuid if self.instance else self.gpu.uuid

    @property
    def health(self) -> Health:
        """Its own, or its GPU's when that can't be used."""
        return self.instance.health if self.instance and self.gpu.health.ok else self.gpu.health

    @property
    def usable(self) -> bool:
        """Whether it can be given out: it is healthy, and nobody else has it."""
        return self.health.ok and self.uuid not in self.gpu.withheld

    @property
    def nodes(self) -> tuple[DeviceNode, ...]:
        """The device nodes that a container needs beside the common ones."""
        return self.gpu.nodes + self.instance.nodes if self.instance else self.gpu.nodes

    @property
    def order(self) -> tuple[int, int, int]:
        """Its place among all of a node: as the driver lists them."""
        return (self.gpu.index, self.instance.index if self.instance else -1, self.replica or 0)


@dataclass(frozen=True)
class ServingFault:
    """Why a GPU, or a part of it, isn't offered as the options ask."""

    gpu: Device
    reason: str

    def __str__(self) -> str:
        return f"GPU {self.gpu.index} {self.reason}"


@dataclass(frozen=True)
class Served:
    """All that a node offers.

    Attributes:
        inventory: what it is made of.
        serving: the options.
        resources: the devices of each resource, in the driver's order.
        faults: what isn't offered, and why.
    """

    inventory: Inventory
    serving: Serving = DEFAULT
    resources: Mapping[str, tuple[ServedDevice, ...]] = field(default_factory=dict)
    faults: tuple[ServingFault, ...] = ()

    @property
    def devices(self) -> tuple[ServedDevice, ...]:
        """Those of all resources."""
        return tuple(device for devices in self.resources.values() for device in devices)

    @property
    def detail(self) -> str:
        """For people: why a node with GPUs offers none, or not all; the inventory's own reason without."""
        return "; ".join(map(str, self.faults)) if self.inventory.devices else self.inventory.detail


def serve(inventory: Inventory, serving: Serving = DEFAULT) -> Served:
    """What is offered of these GPUs.

    With the strategy `single`, NVIDIA GPUs that aren't split alike make the node's state invalid: none is
    offered then, and the faults say which GPU is to be split how.
    """
    if serving.mig_strategy is MigStrategy.SINGLE and any(map(_is_split, inventory.devices)):
        nvidias = [gpu for gpu in inventory.devices if gpu.vendor == NVIDIA]
        faults = tuple(_single_faults(nvidias))
        parts = () if faults else nvidias
        devices = [_part(gpu, each, GPU_RESOURCE) for gpu in parts for each in _instances(gpu)]
        devices += [_whole(gpu) for gpu in inventory.devices if gpu.vendor != NVIDIA]
    elif serving.mig_strategy is MigStrategy.MIXED:
        faults = tuple(fault for gpu in inventory.devices for fault in _mixed_faults(gpu))
        devices = [device for gpu in inventory.devices for device in _mixed(gpu)]
    else:
        hidden = () if serving.split_whole else tuple(filter(_is_split, inventory.devices))
        faults = tuple(ServingFault(gpu, _UNOFFERED) for gpu in hidden)
        devices = [_whole(gpu) for gpu in inventory.devices if gpu not in hidden]
    unshared = [_shared_fault(device, serving) for device in devices]
    offered = [
        name for device in devices for each in _shared(device, serving) for name in _named(each, serving)
    ]
    return Served(inventory, serving, _by_resource(offered), (*faults, *filter(None, unshared)))


def _rule(device: ServedDevice, serving: Serving) -> Sharing | None:
    rules = (rule for rule in serving.sharing if rule.is_of(device.resource, device.gpu, device.instance))
    return next(rules, None)


def _shared(device: ServedDevice, serving: Serving) -> Iterable[ServedDevice]:
    """A device's replicas where a rule says so; itself where none does, or where the rule can't be kept."""
    rule = _rule(device, serving)
    if rule is None or rule.problem(device.gpu, device.instance):
        return [device]
    return [
        replace(
            device,
            id=f"{device.id}::{replica}",
            resource=rule.renamed or device.resource,
            replica=replica,
            sharing=rule,
        )
        for replica in range(rule.replicas)
    ]


def _shared_fault(device: ServedDevice, serving: Serving) -> ServingFault | None:
    rule = _rule(device, serving)
    problem = rule.problem(device.gpu, device.instance) if rule else ""
    return ServingFault(device.gpu, f"{problem}: it is one container's alone") if problem else None


def _named(device: ServedDevice, serving: Serving) -> Iterable[ServedDevice]:
    """A whole GPU under the name of its model, where that is asked for."""
    name = model_resource(device.gpu.vendor, device.gpu.model)
    is_whole = device.instance is None and device.resource == whole_gpus(device.gpu.vendor)
    if serving.model_names is ModelNames.NO or not is_whole or device.sharing or not name:
        return [device]
    return [replace(device, resource=name)]


def _by_resource(devices: Iterable[ServedDevice]) -> dict[str, tuple[ServedDevice, ...]]:
    found: dict[str, list[ServedDevice]] = {}
    for device in sorted(devices, key=lambda device: device.order):
        found.setdefault(device.resource, []).append(device)
    return {resource: tuple(of_it) for resource, of_it in sorted(found.items())}


def _whole(gpu: Device) -> ServedDevice:
    return ServedDevice(gpu.uuid, whole_gpus(gpu.vendor), gpu)


def _part(gpu: Device, instance: MigInstance, resource: str) -> ServedDevice:
    return ServedDevice(instance.uuid, resource, gpu, instance)


def _is_split(gpu: Device) -> bool:
    return gpu.mig is not None and gpu.mig.enabled


def _instances(gpu: Device) -> tuple[MigInstance, ...]:
    return gpu.mig.instances if gpu.mig is not None and gpu.mig.enabled else ()


def _mixed(gpu: Device) -> Iterable[ServedDevice]:
    if not _is_split(gpu):
        return [_whole(gpu)]
    return [_part(gpu, each, mig_resource(each.profile)) for each in _instances(gpu) if _is_entire(each)]


def _mixed_faults(gpu: Device) -> Iterable[ServingFault]:
    if _is_split(gpu) and not _instances(gpu):
        yield ServingFault(gpu, "has MIG enabled and no instances: nothing of it can be had")
    for each in _instances(gpu):
        if not _is_entire(each):
            yield ServingFault(gpu, _in_pieces(each))


def _single_faults(gpus: Iterable[Device]) -> Iterable[ServingFault]:
    """Which GPUs keep the parts of all from being offered alike."""
    usual = ""
    for gpu in gpus:
        if not _is_split(gpu):
            yield ServingFault(gpu, "is whole, and with the MIG strategy single all GPUs must be split")
        elif not _instances(gpu):
            yield ServingFault(gpu, "has MIG enabled and no instances, which the MIG strategy single needs")
        for each in _instances(gpu):
            usual = usual or each.profile
            if not _is_entire(each):
                yield ServingFault(gpu, _in_pieces(each))
                break
            if each.profile != usual:
                reason = f"has {each.profile} where others are {usual}, and the MIG strategy single needs"
                yield ServingFault(gpu, f"{reason} all alike: use mixed, or split all of them alike")
                break


def _is_entire(instance: MigInstance) -> bool:
    """Whether it has all compute slices of its GPU instance: pieces of one share its memory and faults."""
    return instance.ci_slices == instance.gi_slices


def _in_pieces(instance: MigInstance) -> str:
    return (
        f"has {instance.profile}, with {instance.ci_slices} of {instance.gi_slices} compute slices of its "
        "GPU instance: only instances with all of them can be had"
    )
