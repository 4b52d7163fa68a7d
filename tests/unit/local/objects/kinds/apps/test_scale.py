"""The scale of a Deployment, as kubectl and autoscalers read and write it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.client.api import PatchType
from gpuyard.kube.objects import DEPLOYMENTS, ObjectKey
from gpuyard.local.objects.admission import WriteOptions
from gpuyard.local.objects.kinds.apps.scale import SCALE
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Store

KEY = ObjectKey("default", "d")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ObjectApi]:
    """With a Deployment of two replicas."""
    store = await Store.open(tmp_path / "yard.db", synchronous="OFF")
    api = ObjectApi(store, yard_kinds())
    await api.bootstrap()
    pod = {"containers": [{"name": "main", "image": "i"}]}
    selector = {"matchLabels": {"b": "c"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]}
    template = {"metadata": {"labels": {"a": "b", "b": "c"}}, "spec": pod}
    spec = {"replicas": 2, "selector": selector, "template": template}
    await api.create(DEPLOYMENTS, {"metadata": {"name": "d", "namespace": "default"}, "spec": spec})
    yield api
    await store.close()


async def scale(api: ObjectApi) -> dict[str, Any]:
    assert SCALE.view is not None
    return SCALE.view(await api.get(DEPLOYMENTS, "d", "default"))


async def test_it_shows_replicas_and_the_selector_as_text(api: ObjectApi) -> None:
    shown = await scale(api)
    assert (shown["apiVersion"], shown["kind"]) == ("autoscaling/v1", "Scale")
    assert shown["spec"] == {"replicas": 2}
    assert shown["status"] == {"replicas": 0, "selector": "a,b=c"}


async def test_written_it_changes_the_replicas_alone(api: ObjectApi) -> None:
    before = await api.get(DEPLOYMENTS, "d", "default")
    spec = api.kinds.of(DEPLOYMENTS)
    written = {**await scale(api), "spec": {"replicas": 5}}
    await api.update_raw(spec, KEY, written, SCALE, WriteOptions())
    after = await api.get(DEPLOYMENTS, "d", "default")
    assert after["spec"] == {**before["spec"], "replicas": 5}
    assert after["metadata"]["generation"] == 2
    # None is what a Scale says that says nothing.
    await api.patch(DEPLOYMENTS, "d", {"spec": None}, "default", subresource="scale")
    assert (await scale(api))["spec"] == {}


async def test_a_scale_of_before_is_a_conflict(api: ObjectApi) -> None:
    read = await scale(api)
    await api.patch(DEPLOYMENTS, "d", {"spec": {"replicas": 3}}, "default", subresource="scale")
    with pytest.raises(errors.Conflict, match="the object has been modified"):
        await api.update_raw(api.kinds.of(DEPLOYMENTS), KEY, read, SCALE, WriteOptions())


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"spec": {"replicas": -1}}, r'^Scale.autoscaling "d" is invalid: spec.replicas: Invalid value: -1'),
        ({"spec": {"replicas": "2"}}, "cannot unmarshal string"),
        ({"spec": {"template": {}}}, r'unknown field "spec.template"'),
    ],
)
async def test_what_is_no_scale_is_refused(api: ObjectApi, patch: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.Invalid, match=message):
        await api.patch(DEPLOYMENTS, "d", patch, "default", subresource="scale", patch_type=PatchType.MERGE)
