"""Which slices a Service and its pods call for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.controllers.endpoint_slice.slices import MANAGER, MAX_ENDPOINTS, selects, wanted_slices
from gpuyard.kube.objects import Manifest


def a_service(**spec: Any) -> Manifest:
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    metadata = {"name": "web", "namespace": "default", "uid": "service-1", "labels": {"team": "a"}}
    chosen = {"clusterIP": "127.96.0.1", "selector": {"app": "web"}, "ports": ports}
    return {"metadata": metadata, "spec": {**chosen, **spec}}


def a_pod(name: str, *, ready: bool = True, listens: int = 0, **changes: Any) -> Manifest:
    container = {"name": "main", "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}]}
    metadata: dict[str, Any] = {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}}
    if listens:
        metadata["annotations"] = {"gpuyard.io/ports": json.dumps({"8000": listens})}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": metadata | changes.pop("metadata", {}),
        "spec": {"nodeName": "node-a", "containers": [container], **changes.pop("spec", {})},
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": conditions,
            **changes,
        },
    }


def conditions(slices: list[Manifest]) -> list[tuple[bool, bool, bool]]:
    return [tuple(endpoint["conditions"].values()) for one in slices for endpoint in one["endpoints"]]


def names(slices: list[Manifest]) -> list[list[str]]:
    return [[endpoint["targetRef"]["name"] for endpoint in one["endpoints"]] for one in slices]


def stored(slices: list[Manifest]) -> list[Manifest]:
    return [{**one, "metadata": {**one["metadata"], "resourceVersion": "1"}} for one in slices]


def test_pods_with_the_same_ports_share_a_slice() -> None:
    [one] = wanted_slices(a_service(), [a_pod("b"), a_pod("a", ready=False)], [])
    assert one["metadata"]["name"].startswith("web-")
    assert one["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": MANAGER,
    }
    [owner] = one["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Service", "service-1", True)
    assert one["ports"] == [{"name": "http", "protocol": "TCP", "port": 8000}]
    assert one["endpoints"][1] == {
        "addresses": ["127.0.0.1"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "b", "uid": "b"},
        "nodeName": "node-a",
    }
    assert conditions([one]) == [(False, False, False), (True, True, False)]


def test_one_that_ends_serves_and_is_not_ready() -> None:
    going = {"deletionTimestamp": "2026-01-31T12:00:00Z"}
    [one] = wanted_slices(
        a_service(), [a_pod("a", metadata=going), a_pod("b", ready=False, metadata=going)], []
    )
    assert conditions([one]) == [(False, True, True), (False, False, True)]


def test_what_is_not_ready_is_ready_where_the_service_says_so() -> None:
    one = wanted_slices(a_service(publishNotReadyAddresses=True), [a_pod("a", ready=False)], [])
    assert conditions(one) == [(True, False, False)]


@pytest.mark.parametrize("pod", [a_pod("a", phase="Succeeded"), a_pod("a", podIPs=[]), None])
def test_a_service_without_pods_has_an_empty_slice(pod: Manifest | None) -> None:
    [one] = wanted_slices(a_service(), [pod] if pod else [], [])
    assert (one["endpoints"], one["ports"]) == ([], [])
    assert wanted_slices(a_service(), [], stored([one])) == stored([one])


def test_a_pod_that_listens_elsewhere_has_a_slice_of_its_own() -> None:
    slices = wanted_slices(a_service(), [a_pod("a", listens=41001), a_pod("b", listens=41002)], [])
    assert [one["ports"][0]["port"] for one in slices] == [41001, 41002]
    by_number = a_service(ports=[{"port": 80, "targetPort": 8000, "protocol": "TCP", "appProtocol": "http"}])
    [one] = wanted_slices(by_number, [a_pod("a", listens=41001)], [])
    assert one["ports"] == [{"name": "", "protocol": "TCP", "port": 41001, "appProtocol": "http"}]


def test_a_pod_without_the_named_port_has_none() -> None:
    [one] = wanted_slices(a_service(), [a_pod("a", spec={"containers": [{"name": "main"}]})], [])
    assert (one["ports"], names([one])) == ([], [["a"]])
    sidecar = {"name": "s", "restartPolicy": "Always",
               "ports": [{"name": "http", "containerPort": 9000, "protocol": "TCP"}]}  # fmt: skip
    spec = {"containers": [{"name": "main"}], "initContainers": [sidecar]}
    [one] = wanted_slices(a_service(), [a_pod("a", spec=spec)], [])
    assert one["ports"][0]["port"] == 9000


def test_pods_of_a_headless_one_have_their_names() -> None:
    spec = {"hostname": "web-0", "subdomain": "web"}
    [one] = wanted_slices(a_service(clusterIP="None"), [a_pod("a", spec=spec)], [])
    assert one["endpoints"][0]["hostname"] == "web-0"
    assert one["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    [one] = wanted_slices(a_service(), [a_pod("a", spec={**spec, "subdomain": "other"})], [])
    assert "hostname" not in one["endpoints"][0]


def test_the_slices_of_a_former_service_of_that_name_are_not_its_own() -> None:
    former = a_service()
    former["metadata"]["uid"] = "service-0"
    old = stored(wanted_slices(former, [a_pod("a")], []))
    [one] = wanted_slices(a_service(), [a_pod("a")], old)
    assert one["metadata"]["name"] != old[0]["metadata"]["name"]
    assert "resourceVersion" not in one["metadata"]


def test_who_is_selected() -> None:
    assert selects(a_service(), a_pod("a"))
    assert not selects(a_service(selector={"app": "web", "tier": "b"}), a_pod("a"))
    assert not selects(a_service(selector={}), a_pod("a"))


@given(st.lists(st.sets(st.integers(0, 3 * MAX_ENDPOINTS), max_size=3 * MAX_ENDPOINTS), max_size=4))
def test_endpoints_stay_where_they_are_and_no_slice_is_too_long(steps: list[set[int]]) -> None:
    slices: list[Manifest] = []
    for numbers in steps:
        before = {uid: one["metadata"]["name"] for one in slices for uid in _uids(one)}
        slices = stored(wanted_slices(a_service(), [a_pod(f"p{number:03}") for number in numbers], slices))
        after = [(uid, one["metadata"]["name"]) for one in slices for uid in _uids(one)]
        assert sorted(uid for uid, _ in after) == sorted(f"p{number:03}" for number in numbers)
        assert all(before.get(uid, name) == name for uid, name in after)
        assert all(len(one["endpoints"]) <= MAX_ENDPOINTS for one in slices)
        assert len({one["metadata"]["name"] for one in slices}) == len(slices) > 0


def _uids(one: Manifest) -> list[str]:
    return [endpoint["targetRef"]["uid"] for endpoint in one["endpoints"]]
