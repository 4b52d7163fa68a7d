"""Which address a Service gets."""

from __future__ import annotations

import asyncio
import random
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.kube.objects import SERVICES
from gpuyard.local.objects.admission import WriteOptions
from gpuyard.local.objects.kinds.service import SERVICE
from gpuyard.local.objects.kinds.service_addresses import NETWORK, free_address
from gpuyard.local.objects.verbs import ObjectApi


def a_service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": [{"port": 80}], **spec}}


async def make(api: ObjectApi, name: str, **spec: Any) -> str:
    made = await api.create(SERVICES, a_service(name, **spec))
    assert made["spec"]["clusterIPs"] == [made["spec"]["clusterIP"]]
    return str(made["spec"]["clusterIP"])


@given(st.integers(), st.sets(st.integers(1, 20)))
def test_a_free_one_is_chosen(seed: int, numbers: set[int]) -> None:
    address = free_address({str(NETWORK[number]) for number in numbers}, random.Random(seed))
    assert address is not None
    assert IPv4Address(address) in NETWORK
    assert IPv4Address(address) not in [NETWORK[number] for number in (*numbers, 0, -1)]


def test_the_last_one_is_found_and_then_there_is_none() -> None:
    addresses = {str(address) for address in NETWORK.hosts()}
    last = addresses.pop()
    assert free_address(addresses, random.Random(1)) == last
    assert free_address({*addresses, last}, random.Random(1)) is None


async def test_each_has_its_own_and_keeps_it(api: ObjectApi) -> None:
    first, second = await make(api, "a"), await make(api, "b")
    assert first != second
    changed = await api.update(SERVICES, a_service("a", selector={"app": "a"}))
    assert changed["spec"]["clusterIP"] == first
    patched = await api.patch(SERVICES, "a", {"spec": {"clusterIP": None, "clusterIPs": None}}, "default")
    assert patched["spec"]["clusterIPs"] == [first]


async def test_one_asks_for_an_address_that_is_free(api: ObjectApi) -> None:
    assert await make(api, "a", clusterIP="127.96.4.2") == "127.96.4.2"
    with pytest.raises(errors.Invalid) as caught:
        await make(api, "b", clusterIP="127.96.4.2")
    why = "failed to allocate IP 127.96.4.2: provided IP is already allocated"
    assert (
        caught.value.message
        == f'Service "b" is invalid: spec.clusterIPs: Invalid value: ["127.96.4.2"]: {why}'
    )
    await api.delete(SERVICES, "a", "default")
    assert await make(api, "b", clusterIP="127.96.4.2") == "127.96.4.2"


async def test_of_many_at_once_no_two_have_one(api: ObjectApi) -> None:
    made = await asyncio.gather(*(make(api, f"s{number}") for number in range(20)))
    assert len(set(made)) == 20
    results = await asyncio.gather(
        *(make(api, f"t{number}", clusterIP="127.96.9.9") for number in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, errors.Invalid) for result in results) == 4


async def test_a_dry_run_says_what_would_be_refused_and_takes_nothing(api: ObjectApi) -> None:
    dry = WriteOptions(dry_run=True)
    await api.create_raw(SERVICE, "default", a_service("a", clusterIP="127.96.4.2"), dry)
    await make(api, "b", clusterIP="127.96.4.2")
    with pytest.raises(errors.Invalid, match="already allocated"):
        await api.create_raw(SERVICE, "default", a_service("a", clusterIP="127.96.4.2"), dry)
    answer = await api.create_raw(SERVICE, "default", a_service("a"), dry)
    assert IPv4Address(answer.manifest["spec"]["clusterIP"]) in NETWORK
