"""The agent's configuration file (pure): NVIDIA's `version: v1` with what gpuyard has of it, and its own.

Source: NVIDIA/k8s-device-plugin api/config/v1 and README, "Configuring the NVIDIA device plugin binary".
Beyond NVIDIA's: `devices` as a list and `nodes` of a shared resource, `memory` and `threads` of MPS clients,
`resources.byModel`, `flags.plugin.allocationPolicy` and `flags.plugin.preStart`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from gpuyard import errors
from gpuyard.agent.options.device_lists import DeviceList
from gpuyard.agent.options.sharing import MAX_MPS_CLIENTS, MAX_REPLICAS, Sharing, SharingStrategy
from gpuyard.agent.served import DEFAULT, MigStrategy, ModelNames, Serving
from gpuyard.gpus.resources import GPU_RESOURCE, MIG_PREFIX, SHARED_SUFFIX, WHOLE_GPUS
from gpuyard.kube.names import is_extended_resource
from gpuyard.kube.quantity import to_int

_Choice = TypeVar("_Choice", bound=StrEnum)
_PREFIX = "nvidia.com/"
_MIB = 2**20
#: Fields of NVIDIA's that have no meaning here, and do no harm.
_WITHOUT_MEANING = ("failOnInitError", "gfd")


class PreStart(StrEnum):
    """What is done before each start of a container.

    CHECK: a GPU that is unhealthy by then keeps the container from starting.
    SCRUB: so does one whose free memory couldn't be overwritten, as it is then.
    """

    NONE = "none"
    CHECK = "check"
    SCRUB = "scrub"


@dataclass(frozen=True)
class AgentConfig:
    """What the file says.

    Attributes:
        serving: how GPUs are offered.
        device_lists: ways to name them to what runs containers; None for what suits the node.
        by_index: whether NVIDIA_VISIBLE_DEVICES has indexes.
        pre_start: what is done before each start of a container.
    """

    serving: Serving = DEFAULT
    device_lists: frozenset[DeviceList] | None = None
    by_index: bool = False
    pre_start: PreStart = PreStart.NONE

    def on_node(self, node: str) -> AgentConfig:
        """Without rules that are for other nodes."""
        rules = tuple(rule for rule in self.serving.sharing if rule.is_for_node(node))
        return replace(self, serving=replace(self.serving, sharing=rules))


def parse_config(raw: Any) -> AgentConfig:
    """Reads a configuration, as YAML or JSON has it.

    Raises:
        UsageError: it isn't one; the message names the field.
    """
    top = _ConfigMapping("", raw)
    if top.take("version") != "v1":
        raise _wrong("version", "must be v1")
    flags = top.fields("flags")
    plugin = flags.fields("plugin")
    serving = Serving(
        mig_strategy=flags.choice("migStrategy", MigStrategy, MigStrategy.NONE),
        packed=_policy(plugin),
        model_names=_model_names(top.fields("resources")),
        sharing=_sharing(top.fields("sharing")),
    )
    config = AgentConfig(
        serving,
        _device_lists(plugin),
        by_index=plugin.word("deviceIDStrategy", ("uuid", "index"), "uuid") == "index",
        pre_start=plugin.choice("preStart", PreStart, PreStart.NONE),
    )
    for name in _WITHOUT_MEANING:
        flags.take(name)
    for fields in (plugin, flags, top):
        fields.end()
    return config


def _model_names(resources: _ConfigMapping) -> ModelNames:
    if resources.says("byModel", "beside"):
        raise _wrong(
            resources.at("byModel"),
            "can't be beside: the kubelet counts each resource for itself, and would give one GPU twice "
            "(docs/adr/0044); write instead, or leave it out and ask for a model by the label "
            "gpuyard.io/gpu-model",
        )
    return resources.only("byModel", ModelNames, ModelNames.NO)


class _ConfigMapping:
    """A mapping of the file of which each field is taken once."""

    def __init__(self, path: str, raw: Any) -> None:
        if raw is None:
            raw = {}
        if not isinstance(raw, Mapping):
            raise _wrong(path or "the file", "must be a mapping")
        self.path = path
        self._left = {str(name): value for name, value in raw.items()}
        self._known: list[str] = []

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def take(self, name: str, default: Any = None) -> Any:
        self._known.append(name)
        value = self._left.pop(name, None)
        return default if value is None else value

    def says(self, name: str, value: str) -> bool:
        """Without taking the field."""
        return bool(self._left.get(name) == value)

    def fields(self, name: str) -> _ConfigMapping:
        return _ConfigMapping(self.at(name), self.take(name))

    def word(self, name: str, words: Iterable[str], default: str) -> str:
        value = self.take(name, default)
        # YAML reads "no" as false.
        value = "no" if value is False else value
        allowed = [str(word) for word in words]
        if value not in allowed:
            raise _wrong(self.at(name), f"must be one of {', '.join(allowed)}, not {value!r}")
        return str(value)

    def choice(self, name: str, kind: type[_Choice], default: _Choice) -> _Choice:
        return kind(self.word(name, kind, default))

    def only(self, name: str, kind: type[_Choice], default: _Choice) -> _Choice:
        """Of a mapping that has no other field."""
        value = self.choice(name, kind, default)
        self.end()
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise _wrong(self.at(name), f"must be true or false, not {value!r}")
        return value

    def number(self, name: str, low: int, high: int) -> int | None:
        value = self.take(name)
        if value is not None and (type(value) is not int or not low <= value <= high):
            raise _wrong(self.at(name), f"must be a number from {low} to {high}, not {value!r}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.take(name, [])
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, Sequence) or not all(type(one) in (str, int) for one in value):
            raise _wrong(self.at(name), f"must be a list of words, not {value!r}")
        return tuple(map(str, value))

    def items(self, name: str) -> list[_ConfigMapping]:
        value = self.take(name, [])
        if not isinstance(value, list):
            raise _wrong(self.at(name), "must be a list")
        return [_ConfigMapping(f"{self.at(name)}[{place}]", one) for place, one in enumerate(value)]

    def end(self) -> None:
        for name in self._left:
            raise _wrong(self.at(name), f"isn't a field that gpuyard has; there are {', '.join(self._known)}")


def _policy(plugin: _ConfigMapping) -> bool:
    return plugin.word("allocationPolicy", ("distributed", "packed"), "distributed") == "packed"


def _device_lists(plugin: _ConfigMapping) -> frozenset[DeviceList] | None:
    words = [word for text in plugin.texts("deviceListStrategy") for word in text.split(",")]
    pass_specs = plugin.flag("passDeviceSpecs", default=False)
    found = set()
    for word in words:
        if word not in [*DeviceList, "auto"]:
            raise _wrong(
                plugin.at("deviceListStrategy"), f"{word!r} is none of auto, {', '.join(DeviceList)}"
            )
        if word != "auto":
            found.add(DeviceList(word))
    if not found:
        return None
    return frozenset(found | ({DeviceList.DEVICE_SPECS} if pass_specs else set()))


def _sharing(sharing: _ConfigMapping) -> tuple[Sharing, ...]:
    rules = [
        rule
        for name, strategy in (("timeSlicing", SharingStrategy.TIME_SLICING), ("mps", SharingStrategy.MPS))
        for rule in _rules(sharing.fields(name), strategy)
    ]
    sharing.end()
    return tuple(rules)


def _rules(fields: _ConfigMapping, strategy: SharingStrategy) -> Iterable[Sharing]:
    is_mps = strategy is SharingStrategy.MPS
    rename = fields.flag("renameByDefault", default=False)
    one_at_most = fields.flag("failRequestsGreaterThanOne", default=is_mps)
    if is_mps and not one_at_most:
        raise _wrong(
            fields.at("failRequestsGreaterThanOne"),
            "must be true: a container is the client of one MPS daemon",
        )
    rules = fields.items("resources")
    fields.end()
    for each in rules:
        resource = _resource(each.at("name"), each.take("name", ""))
        if resource not in WHOLE_GPUS and not resource.startswith(MIG_PREFIX):
            raise _wrong(each.at("name"), f"{resource!r} is nothing that nodes have, such as {GPU_RESOURCE}")
        replicas = each.number("replicas", 2, MAX_MPS_CLIENTS if is_mps else MAX_REPLICAS)
        if replicas is None:
            raise _wrong(each.at("replicas"), "is missing: how many containers are to share one")
        renamed = each.take("rename", "")
        rule = Sharing(
            strategy,
            replicas,
            resource,
            renamed=_resource(each.at("rename"), renamed)
            if renamed
            else resource + SHARED_SUFFIX
            if rename
            else "",
            devices=_devices(each),
            nodes=each.texts("nodes"),
            one_at_most=one_at_most,
            memory_mib=_memory(each) if is_mps else None,
            thread_percent=each.number("threads", 1, 100) if is_mps else None,
        )
        each.end()
        yield rule


def _resource(path: str, name: Any) -> str:
    full = name if isinstance(name, str) and "/" in name else f"{_PREFIX}{name}"
    if not is_extended_resource(full):
        raise _wrong(path, f"{name!r} is no name of a resource, such as {GPU_RESOURCE}")
    return full


def _devices(rule: _ConfigMapping) -> tuple[str, ...]:
    value = rule.take("devices", "all")
    if value == "all":
        return ()
    if not isinstance(value, list) or not value or not all(type(one) in (int, str) for one in value):
        raise _wrong(rule.at("devices"), f"must be all, or a list of indexes and UUIDs, not {value!r}")
    return tuple(map(str, value))


def _memory(rule: _ConfigMapping) -> int | None:
    value = rule.take("memory")
    if value is None:
        return None
    try:
        found = to_int(str(value)) // _MIB
    except ValueError:
        found = 0
    if not found:
        raise _wrong(rule.at("memory"), f"must be an amount such as 20Gi, not {value!r}")
    return found


def _wrong(field: str, why: str) -> errors.UsageError:
    return errors.UsageError(
        f"the configuration of GPUs: {field} {why}", remedy="see docs/how-to/share-and-split-gpus.md"
    )
