"""ConfigMap, Secret, ServiceAccount, Node, Namespace, Event, PriorityClass, Lease."""

import base64
import copy
from typing import Any

import pytest

from gpuyard.local.objects.kinds.config import CONFIG_MAP, SECRET, SERVICE_ACCOUNT
from gpuyard.local.objects.kinds.event import EVENT
from gpuyard.local.objects.kinds.kind import FieldError, KindSpec
from gpuyard.local.objects.kinds.lease import LEASE
from gpuyard.local.objects.kinds.namespace import NAMESPACE
from gpuyard.local.objects.kinds.node import NODE
from gpuyard.local.objects.kinds.priority_class import PRIORITY_CLASS
from gpuyard.local.objects.kinds.served import yard_kinds

from .conftest import create, update

Manifest = dict[str, Any]
_MIB = 1024 * 1024


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _texts(found: list[FieldError]) -> list[str]:
    return [f"{e.path}: {e.message}" for e in found]


def test_the_registry_finds_each_kind() -> None:
    kinds = yard_kinds()
    assert len(list(kinds)) == 19
    assert all(kinds.of(spec.resource) is spec for spec in kinds)
    short_names = [name for spec in yard_kinds() for name in spec.short_names]
    assert len(set(short_names)) == len(short_names)
    for spec in yard_kinds():
        assert all(sum(map(bool, (p.merge, p.apply, p.streams, p.upgrades))) == 1 for p in spec.subresources)
        assert all(p.apply for p in spec.subresources if p.evicts)
        assert spec.columns


def test_field_selectors_of_a_kind() -> None:
    assert NODE.selects("spec.unschedulable")
    assert NODE.selects("metadata.name")
    assert not NODE.selects("metadata.namespace")
    assert EVENT.selects("metadata.namespace")
    assert not EVENT.selects("metadata.labels")


@pytest.mark.parametrize(
    ("spec", "manifest", "message"),
    [
        (CONFIG_MAP, {"data": {"a b": ""}}, 'data[a b]: Invalid value: "a b": a valid config key'),
        (CONFIG_MAP, {"data": {"..a": ""}}, "data[..a]: Invalid value: \"..a\": must not start with '..'"),
        (CONFIG_MAP, {"data": {"a": ""}, "binaryData": {"a": ""}}, "duplicate of key present in binaryData"),
        (CONFIG_MAP, {"data": {"a": "x" * (_MIB + 1)}}, ": Too long: may not be more than"),
        (CONFIG_MAP, {"binaryData": {"a": _base64(b"x" * (_MIB + 1))}}, ": Too long: may not be more"),
        (SECRET, {"data": {"a": _base64(b"x" * (_MIB + 1))}}, "data: Too long: may not be more than"),
        (SECRET, {"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}, "data[tls.key]: Required value"),
        (NODE, {"spec": {"taints": [{"key": "a"}]}}, "metadata.taints[0].effect: Required value"),
        (NODE, {"spec": {"taints": [{"key": "a", "effect": "No"}]}}, 'Unsupported value: "No"'),
        (NODE, {"spec": {"taints": [{"key": "a", "effect": "NoExecute"}] * 2}},
         "metadata.taints[1]: Duplicate"),
        (NODE, {"status": {"capacity": {"cpu": "-1"}}}, 'status.capacity[cpu]: Invalid value: "-1"'),
        (EVENT, {"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}},
         'involvedObject.namespace: Invalid value: "b": does not match event.namespace'),
        (PRIORITY_CLASS, {"value": 2_000_000_000}, "maximum allowed value of a user defined priority is"),
        (PRIORITY_CLASS, {"metadata": {"name": "system-x"}}, "names with 'system-' prefix are reserved"),
        (PRIORITY_CLASS, {"preemptionPolicy": "Maybe"}, 'preemptionPolicy: Unsupported value: "Maybe"'),
        (LEASE, {"spec": {"leaseDurationSeconds": 0}}, "spec.leaseDurationSeconds: Invalid value: 0"),
        (LEASE, {"spec": {"leaseTransitions": -1}}, "spec.leaseTransitions: Invalid value: -1"),
    ],
)  # fmt: skip
def test_rules(spec: KindSpec, manifest: Manifest, message: str) -> None:
    _, found = create(spec, manifest)
    assert len(found) >= 1
    assert message in _texts(found)[0]


@pytest.mark.parametrize(
    ("spec", "manifest"),
    [
        (CONFIG_MAP, {"data": {"a": "x" * _MIB}}),
        (SECRET, {"data": {"a": _base64(b"x" * _MIB)}}),
        (SERVICE_ACCOUNT, {"secrets": [{"name": "a"}]}),
        (EVENT, {"metadata": {"namespace": "default"}, "involvedObject": {"kind": "Node", "name": "n"}}),
        (LEASE, {"spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}),
        (PRIORITY_CLASS, {"metadata": {"name": "high"}, "value": 1000}),
    ],
)
def test_what_is_fine(spec: KindSpec, manifest: Manifest) -> None:
    assert create(spec, manifest)[1] == []


def test_the_text_of_a_secret_becomes_data() -> None:
    secret = {"stringData": {"a": "ä", "b": "2"}, "data": {"b": _base64(b"1"), "c": _base64(b"3")}}
    stored, found = create(SECRET, secret)
    assert found == []
    assert stored["type"] == "Opaque"
    assert stored["data"] == {"a": _base64("ä".encode()), "b": _base64(b"2"), "c": _base64(b"3")}
    assert "stringData" not in stored


@pytest.mark.parametrize("spec", [CONFIG_MAP, SECRET])
def test_what_is_marked_immutable_stays(spec: KindSpec) -> None:
    value = _base64(b"1")
    old, _ = create(spec, {"data": {"a": value}, "immutable": True})
    new = copy.deepcopy(old)
    new["metadata"]["labels"] = {"a": "b"}
    assert update(spec, old, new) == []
    new["data"]["b"] = value
    detail = "Forbidden: field is immutable when `immutable` is set"
    assert _texts(update(spec, old, new)) == [f"data: {detail}"]
    new["immutable"] = False
    assert _texts(update(spec, old, new)) == [f"immutable: {detail}", f"data: {detail}"]


@pytest.mark.parametrize(
    ("spec", "old", "change"),
    [
        (SECRET, {"type": "Opaque"}, {"type": "other"}),
        (PRIORITY_CLASS, {"preemptionPolicy": "Never"}, {"preemptionPolicy": "PreemptLowerPriority"}),
        (NODE, {"spec": {"providerID": "a"}}, {"spec": {"providerID": "b"}}),
    ],
)
def test_immutable_fields(spec: KindSpec, old: Manifest, change: Manifest) -> None:
    stored, _ = create(spec, old)
    assert update(spec, stored, stored) == []
    found = update(spec, stored, stored | change)
    assert len(found) == 1
    assert found[0].message.endswith(": field is immutable")


def test_the_value_of_a_priority_class_stays() -> None:
    stored, _ = create(PRIORITY_CLASS, {"value": 1})
    found = update(PRIORITY_CLASS, stored, stored | {"value": 2})
    assert _texts(found) == ["value: Forbidden: may not be changed in an update."]


def test_a_namespace_starts_active_with_a_finalizer_and_its_name() -> None:
    stored, _ = create(NAMESPACE, {"metadata": {"name": "n"}, "status": {"phase": "Terminating"}})
    assert stored["spec"] == {"finalizers": ["kubernetes"]}
    assert stored["status"] == {"phase": "Active"}
    assert stored["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n"}


def test_an_update_of_a_namespace_leaves_its_finalizers() -> None:
    old = {"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}}
    new: Manifest = {"metadata": {"name": "n"}, "spec": {}}
    NAMESPACE.prepare_update(new, old)
    assert new["spec"] == old["spec"]


def test_a_node_keeps_the_status_it_registers_with() -> None:
    stored, _ = create(NODE, {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "4"}}})
    assert stored["status"] == {"capacity": {"cpu": "4"}, "allocatable": {"cpu": "4"}}


@pytest.mark.parametrize("field", ["capacity", "allocatable"])
@pytest.mark.parametrize(
    ("name", "quantity", "message"),
    [
        ("nvidia.com/gpu", "1500m", 'Invalid value: "1500m": must be an integer'),
        ("nvidia.com/gpu", "-1", 'Invalid value: "-1": must be greater than or equal to 0'),
        ("cpu", "-1", 'Invalid value: "-1": must be greater than or equal to 0'),
        ("cpu", "1500m", ""),
        ("nvidia.com/gpu", "8", ""),
    ],
)
def test_what_a_node_says_that_it_has(field: str, name: str, quantity: str, message: str) -> None:
    old, _ = create(NODE, {"metadata": {"name": "n"}})
    found = update(NODE, old, {**old, "status": {field: {name: quantity}}})
    # What it offers follows from what it has.
    assert {error.message for error in found} == ({message} if message else set())
    assert all(error.path.endswith(f"[{name}]") for error in found)


def test_the_times_of_an_event_may_be_unknown() -> None:
    stored, _ = create(EVENT, {"metadata": {}, "source": {"component": "scheduler"}})
    assert (stored["reportingComponent"], stored["eventTime"]) == ("", None)
