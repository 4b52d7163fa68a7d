"""Lists in pieces."""

from __future__ import annotations

import base64

import pytest

from gpuyard.kube.objects import CONFIG_MAPS
from gpuyard.local.objects.verbs import ObjectApi
from tests.unit.local.conftest import Served

from .test_app import MAPS, refused


async def fill(api: ObjectApi, count: int) -> None:
    for number in range(count):
        manifest = {"metadata": {"name": f"a{number}", "namespace": "default", "labels": {"x": "y"}}}
        await api.create(CONFIG_MAPS, manifest)


async def test_all_pieces_are_of_one_revision(served: Served, api: ObjectApi) -> None:
    await fill(api, 5)
    revision = str(api.store.revision)
    first = (await served.http.get(MAPS, params={"limit": "2"})).json()
    assert first["metadata"]["remainingItemCount"] == 3
    await api.delete(CONFIG_MAPS, "a3", "default")
    await api.create(CONFIG_MAPS, {"metadata": {"name": "a9", "namespace": "default"}})
    names, page = [], first
    while True:
        names += [item["metadata"]["name"] for item in page["items"]]
        assert page["metadata"]["resourceVersion"] == revision
        if "continue" not in page["metadata"]:
            break
        page = (
            await served.http.get(MAPS, params={"limit": "2", "continue": page["metadata"]["continue"]})
        ).json()
    assert names == ["a0", "a1", "a2", "a3", "a4"]


async def test_a_list_that_was_read_to_its_end_is_forgotten(served: Served, api: ObjectApi) -> None:
    await fill(api, 3)
    token = (await served.http.get(MAPS, params={"limit": "2"})).json()["metadata"]["continue"]
    assert (await served.http.get(MAPS, params={"continue": token})).status_code == 200
    response = await served.http.get(MAPS, params={"continue": token})
    assert "You must start a new list without the continue parameter" in refused(response, 410, "Expired")


async def test_the_oldest_of_too_many_lists_is_gone(served: Served, api: ObjectApi) -> None:
    await fill(api, 3)
    tokens = [
        (await served.http.get(MAPS, params={"limit": "1"})).json()["metadata"]["continue"] for _ in range(17)
    ]
    refused(await served.http.get(MAPS, params={"continue": tokens[0]}), 410, "Expired")
    assert (await served.http.get(MAPS, params={"continue": tokens[1]})).status_code == 200


async def test_a_token_serves_its_own_list_only(served: Served, api: ObjectApi) -> None:
    await fill(api, 3)
    token = (await served.http.get(MAPS, params={"limit": "1"})).json()["metadata"]["continue"]
    refused(await served.http.get("/api/v1/secrets", params={"continue": token}), 410, "Expired")
    refused(await served.http.get(MAPS, params={"continue": "bm9uc2Vuc2U="}), 400, "BadRequest")
    for start in (-1, 10**18, 10**30):
        made_up = base64.urlsafe_b64encode(f"[1, {start}]".encode()).decode()
        response = await served.http.get(MAPS, params={"limit": "1", "continue": made_up})
        assert "continue key is not valid" in refused(response, 400, "BadRequest")
    refused(await served.http.get(MAPS, params={"continue": "é"}), 400, "BadRequest")


async def test_with_a_selector_the_rest_is_not_counted(served: Served, api: ObjectApi) -> None:
    await fill(api, 3)
    page = (await served.http.get(MAPS, params={"limit": "2", "labelSelector": "x=y"})).json()
    assert "remainingItemCount" not in page["metadata"]
    assert page["metadata"]["continue"]


@pytest.mark.parametrize(
    ("version", "match", "code", "reason"),
    [
        ("0", "", 200, ""),
        ("0", "NotOlderThan", 200, ""),
        ("1", "", 200, ""),
        ("1", "NotOlderThan", 200, ""),
        ("1", "Exact", 410, "Expired"),
        ("0", "Exact", 422, "Invalid"),
        ("", "Exact", 422, "Invalid"),
        ("1", "Perhaps", 422, "Invalid"),
        ("9999", "", 504, "Timeout"),
        ("x", "", 400, "BadRequest"),
    ],
)
async def test_resource_versions(served: Served, version: str, match: str, code: int, reason: str) -> None:
    params = {"resourceVersion": version, "resourceVersionMatch": match}
    response = await served.http.get(MAPS, params=params)
    if code == 200:
        assert response.status_code == 200
    else:
        refused(response, code, reason)


async def test_exactly_the_current_version(served: Served, api: ObjectApi) -> None:
    params = {"resourceVersion": str(api.store.revision), "resourceVersionMatch": "Exact"}
    assert (await served.http.get(MAPS, params=params)).status_code == 200
