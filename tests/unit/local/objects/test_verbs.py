"""The verbs, in process."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.client.api import KubeApi, PatchType
from gpuyard.kube.objects import (
    CONFIG_MAPS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    PRIORITY_CLASSES,
    Manifest,
    Resource,
)
from gpuyard.local.objects.admission import WriteOptions
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Store


def config_map(name: str, namespace: str = "default", **data: str) -> Manifest:
    return {"metadata": {"name": name, "namespace": namespace}, "data": data}


def pod(name: str = "p", **spec: Any) -> Manifest:
    container = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"runtimeClassName": "gpuyard-process", "containers": [container], **spec},
    }


def job(name: str = "j", **spec: Any) -> Manifest:
    template = {"spec": {**pod()["spec"], "restartPolicy": "Never"}}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"template": template, **spec}}


def test_it_is_a_kube_api(api: ObjectApi) -> None:
    typed: KubeApi = api
    assert typed is api


async def test_bootstrap_makes_what_every_cluster_has_and_leaves_it_the_second_time(api: ObjectApi) -> None:
    namespaces = await api.list(NAMESPACES)
    classes = await api.list(PRIORITY_CLASSES)
    assert [n["metadata"]["name"] for n in namespaces.items] == ["default", "kube-node-lease", "kube-system"]
    assert {c["metadata"]["name"]: c["value"] for c in classes.items} == {
        "system-cluster-critical": 2000000000,
        "system-node-critical": 2000001000,
        "gpuyard-high": 1000,
        "gpuyard-low": -1000,
    }
    await api.bootstrap()
    assert (await api.list(NAMESPACES)).resource_version == classes.resource_version


async def test_create_fills_in_what_the_server_decides(api: ObjectApi) -> None:
    given = config_map("a", key="value")
    given["metadata"] |= {"uid": "mine", "managedFields": [{"manager": "m"}]}
    made = await api.create(CONFIG_MAPS, given)
    assert made["kind"] == "ConfigMap"
    assert made["apiVersion"] == "v1"
    assert made["metadata"]["creationTimestamp"] == "2026-01-31T12:00:00Z"
    assert made["metadata"]["uid"] not in ("", "mine")
    assert made["metadata"]["resourceVersion"] == (await api.list(CONFIG_MAPS)).resource_version
    assert "managedFields" not in made["metadata"]
    assert given["metadata"]["uid"] == "mine", "the caller's manifest is not changed"
    assert await api.get(CONFIG_MAPS, "a", "default") == made


async def test_what_it_hands_out_belongs_to_the_caller(api: ObjectApi) -> None:
    made = await api.create(CONFIG_MAPS, config_map("a", key="value"))
    made["data"]["key"] = "changed"
    read = await api.get(CONFIG_MAPS, "a", "default")
    read["data"]["key"] = "changed too"
    assert (await api.get(CONFIG_MAPS, "a", "default"))["data"] == {"key": "value"}


async def test_a_taken_name_is_refused(api: ObjectApi) -> None:
    await api.create(CONFIG_MAPS, config_map("a"))
    with pytest.raises(errors.AlreadyExists, match=r'^configmaps "a" already exists$') as caught:
        await api.create(CONFIG_MAPS, config_map("a"))
    assert caught.value.details == {"name": "a", "kind": "configmaps"}


async def test_generate_name_tries_again_when_the_name_is_taken(store: Store, api: ObjectApi) -> None:
    given = {"metadata": {"generateName": "run-", "namespace": "default"}}
    first = await ObjectApi(store, yard_kinds(), rng=random.Random(1)).create(CONFIG_MAPS, given)
    second = await ObjectApi(store, yard_kinds(), rng=random.Random(1)).create(CONFIG_MAPS, given)
    assert first["metadata"]["name"].startswith("run-")
    assert second["metadata"]["name"] != first["metadata"]["name"]
    assert len(second["metadata"]["name"]) == len("run-") + 5


async def test_concurrent_creates_of_one_name_make_one_object(api: ObjectApi) -> None:
    results = await asyncio.gather(
        *(api.create(CONFIG_MAPS, config_map("a", n=str(n))) for n in range(5)), return_exceptions=True
    )
    assert sum(isinstance(r, errors.AlreadyExists) for r in results) == 4


@pytest.mark.parametrize(
    ("manifest", "error", "message"),
    [
        (
            {"metadata": {"namespace": "default"}},
            errors.Invalid,
            "metadata.name: Required value: name or gen",
        ),
        (
            config_map("A_b"),
            errors.Invalid,
            'ConfigMap "A_b" is invalid: metadata.name: Invalid value: "A_b"',
        ),
        (config_map("a", namespace="nowhere"), errors.NotFound, 'namespaces "nowhere" not found'),
        ({"metadata": {"name": "a"}}, errors.BadRequest, "an empty namespace may not be set"),
        (
            config_map("a") | {"kind": "Secret"},
            errors.BadRequest,
            'Secret in version "v1" cannot be handled as a ConfigMap',
        ),
        (config_map("a") | {"apiVersion": "v2"}, errors.BadRequest, 'in version "v2" cannot be handled'),
        (config_map("a") | {"dota": {}}, errors.BadRequest, 'unknown field "dota"'),
        (config_map("a") | {"data": 5}, errors.BadRequest, "cannot be handled as a ConfigMap"),
    ],
)
async def test_what_is_wrong_with_a_new_object_is_said(
    api: ObjectApi, manifest: Manifest, error: type[errors.ApiError], message: str
) -> None:
    with pytest.raises(error, match=message):
        await api.create(CONFIG_MAPS, manifest)
    assert (await api.list(CONFIG_MAPS)).items == []


async def test_a_namespace_in_the_url_must_be_the_bodys(api: ObjectApi) -> None:
    with pytest.raises(errors.BadRequest, match="does not match the namespace sent"):
        await api.create(CONFIG_MAPS, config_map("a", namespace="kube-system"), "default")


async def test_reading_what_is_not_there(api: ObjectApi) -> None:
    with pytest.raises(errors.NotFound, match=r'^jobs.batch "j" not found$') as caught:
        await api.get(JOBS, "j", "default")
    assert caught.value.details == {"name": "j", "group": "batch", "kind": "jobs"}
    with pytest.raises(errors.NotFound, match="could not find the requested resource"):
        await api.get(Resource("apps", "v1", "StatefulSet", "statefulsets"), "d", "default")


async def test_list_by_namespace_label_and_field(api: ObjectApi) -> None:
    for name, namespace, colour in (
        ("a", "default", "red"),
        ("b", "default", "blue"),
        ("a", "kube-system", "red"),
    ):
        manifest = config_map(name, namespace)
        manifest["metadata"]["labels"] = {"colour": colour}
        await api.create(CONFIG_MAPS, manifest)

    async def keys(namespace: str | None = None, label: str = "", field: str = "") -> list[str]:
        listed = await api.list(CONFIG_MAPS, namespace, label_selector=label, field_selector=field)
        return [f"{i['metadata']['namespace']}/{i['metadata']['name']}" for i in listed.items]

    assert await keys() == ["default/a", "default/b", "kube-system/a"]
    assert await keys("default") == ["default/a", "default/b"]
    assert await keys(label="colour in (red)") == ["default/a", "kube-system/a"]
    assert await keys("default", field="metadata.name!=a") == ["default/b"]
    with pytest.raises(errors.BadRequest, match=r'"data\.key" is not a known field selector'):
        await keys(field="data.key=1")
    with pytest.raises(errors.BadRequest, match="unable to parse requirement"):
        await keys(label="a b c")


async def test_update_with_a_stale_version_is_a_conflict(api: ObjectApi) -> None:
    first = await api.create(CONFIG_MAPS, config_map("a", key="1"))
    await api.update(CONFIG_MAPS, first | {"data": {"key": "2"}})
    with pytest.raises(errors.Conflict) as caught:
        await api.update(CONFIG_MAPS, first | {"data": {"key": "3"}})
    assert caught.value.message == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    unconditional = config_map("a", key="4")
    assert (await api.update(CONFIG_MAPS, unconditional))["data"] == {"key": "4"}


async def test_update_keeps_what_only_the_server_may_change(api: ObjectApi) -> None:
    made = await api.create(PODS, pod())
    changed = await api.patch(
        PODS, "p", {"metadata": {"generation": 9, "creationTimestamp": None, "labels": {"a": "b"}}}, "default"
    )
    for field in ("uid", "creationTimestamp", "generation"):
        assert changed["metadata"][field] == made["metadata"][field]
    assert changed["metadata"]["labels"] == {"a": "b"}
    with pytest.raises(errors.Conflict, match="UID in precondition: other"):
        await api.patch(PODS, "p", {"metadata": {"uid": "other"}}, "default")
    with pytest.raises(errors.BadRequest, match=r"the name of the object \(q\) does not match"):
        await api.patch(PODS, "p", {"metadata": {"name": "q"}}, "default")


async def test_a_write_that_changes_nothing_is_not_written(api: ObjectApi) -> None:
    made = await api.create(PODS, pod())
    assert await api.update(PODS, made) == made
    assert await api.patch(PODS, "p", {"metadata": {"labels": {"gone": None}}}, "default") == made
    assert (await api.list(PODS)).resource_version == made["metadata"]["resourceVersion"]


async def test_status_and_the_rest_are_written_apart(api: ObjectApi) -> None:
    made = await api.create(JOBS, job(suspend=True))
    ignored = await api.update(JOBS, made | {"status": {"active": 3}})
    assert ignored == made
    changed = {**made, "spec": {**made["spec"], "parallelism": 7}, "status": {"active": 3}}
    changed["metadata"] = {**made["metadata"], "labels": {"a": "b"}}
    written = await api.update(JOBS, changed, subresource="status")
    assert written["status"] == {"active": 3}
    assert written["spec"] == made["spec"]
    assert written["metadata"]["labels"] == {"a": "b"}, "as in Kubernetes"
    assert written["metadata"]["generation"] == 1
    again = await api.patch(JOBS, "j", {"spec": {"suspend": False}, "status": {"active": 9}}, "default")
    assert again["status"] == {"active": 3}
    assert again["metadata"]["generation"] == 2


async def test_a_node_may_be_created_with_its_status(api: ObjectApi) -> None:
    node = {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "4"}}}
    assert (await api.create(NODES, node))["status"]["capacity"] == {"cpu": "4"}


@pytest.mark.parametrize(
    ("patch_type", "patch"),
    [
        (PatchType.MERGE, {"data": {"b": "2", "a": None}}),
        (PatchType.STRATEGIC, {"data": {"b": "2", "a": None}}),
        (
            PatchType.JSON,
            [{"op": "add", "path": "/data/b", "value": "2"}, {"op": "remove", "path": "/data/a"}],
        ),
    ],
)
async def test_the_three_patches(api: ObjectApi, patch_type: PatchType, patch: Any) -> None:
    await api.create(CONFIG_MAPS, config_map("a", a="1"))
    patched = await api.patch(CONFIG_MAPS, "a", patch, "default", patch_type=patch_type)
    assert patched["data"] == {"b": "2"}


async def test_concurrent_patches_all_count(api: ObjectApi) -> None:
    await api.create(CONFIG_MAPS, config_map("a"))
    await asyncio.gather(
        *(api.patch(CONFIG_MAPS, "a", {"data": {f"k{n}": "v"}}, "default") for n in range(20))
    )
    assert len((await api.get(CONFIG_MAPS, "a", "default"))["data"]) == 20


async def test_a_patch_can_carry_a_version(api: ObjectApi) -> None:
    made = await api.create(CONFIG_MAPS, config_map("a"))
    version = {"resourceVersion": made["metadata"]["resourceVersion"]}
    await api.patch(CONFIG_MAPS, "a", {"metadata": version, "data": {"k": "1"}}, "default")
    with pytest.raises(errors.Conflict, match="the object has been modified"):
        await api.patch(CONFIG_MAPS, "a", {"metadata": version, "data": {"k": "2"}}, "default")


async def test_binding_assigns_a_pod_once(api: ObjectApi) -> None:
    made = await api.create(PODS, pod())
    await api.bind("default", "p", "n1", uid=made["metadata"]["uid"])
    bound = await api.get(PODS, "p", "default")
    assert bound["spec"]["nodeName"] == "n1"
    assert bound["status"]["conditions"] == [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-31T12:00:00Z"}
    ]
    with pytest.raises(errors.Conflict, match='pods/binding "p": pod p is already assigned to node "n1"'):
        await api.bind("default", "p", "n2")
    with pytest.raises(errors.Conflict, match="Precondition failed: UID"):
        await api.bind("default", "p", "n2", uid="other")
    with pytest.raises(errors.NotFound):
        await api.bind("default", "q", "n2")


async def test_a_dry_run_answers_and_writes_nothing(api: ObjectApi) -> None:
    from gpuyard.kube.objects import ObjectKey
    from gpuyard.local.objects.deletion import DeleteOptions

    spec, key, dry = api.kinds.of(CONFIG_MAPS), ObjectKey("default", "a"), WriteOptions(dry_run=True)
    made = await api.create_raw(spec, "default", config_map("a"), dry)
    assert made.manifest["metadata"]["uid"]
    assert "resourceVersion" not in made.manifest["metadata"]
    await api.create(CONFIG_MAPS, config_map("a"))
    before = api.store.revision
    with pytest.raises(errors.AlreadyExists):
        await api.create_raw(spec, "default", config_map("a"), dry)
    changed = await api.update_raw(spec, key, config_map("a", k="v"), None, dry)
    assert changed.manifest["data"] == {"k": "v"}
    assert (await api.delete_raw(spec, key, DeleteOptions(dry_run=True))).gone
    assert api.store.revision == before


async def test_labels_follow_a_generated_name_that_was_changed(store: Store) -> None:
    given = {**job(), "metadata": {"generateName": "j-", "namespace": "default"}}
    names = []
    for _ in range(2):
        api = ObjectApi(store, yard_kinds(), rng=random.Random(1))
        await api.bootstrap()
        api = ObjectApi(store, yard_kinds(), rng=random.Random(1))
        made = await api.create(JOBS, given)
        labels = made["spec"]["template"]["metadata"]["labels"]
        assert labels["batch.kubernetes.io/job-name"] == made["metadata"]["name"]
        names.append(made["metadata"]["name"])
    assert len(set(names)) == 2


async def test_a_namespace_may_have_an_annotation_of_any_name(api: ObjectApi) -> None:
    await api.patch(NAMESPACES, "default", {"metadata": {"annotations": {"deletionTimestamp": "never"}}})
    assert await api.create(CONFIG_MAPS, config_map("a"))


async def test_a_write_of_a_cancelled_caller_is_not_overwritten_blindly(api: ObjectApi) -> None:
    """Its turn is over when it is cancelled, and its write may still be committed after that."""
    committed = 0
    for ticks in range(8):
        name = f"a{ticks}"
        made = await api.create(CONFIG_MAPS, config_map(name))
        first = asyncio.create_task(api.patch(CONFIG_MAPS, name, {"data": {"first": "1"}}, "default"))
        for _ in range(ticks):
            await asyncio.sleep(0)
        first.cancel()
        second = await api.patch(CONFIG_MAPS, name, {"data": {"second": "2"}}, "default")
        await asyncio.gather(first, return_exceptions=True)
        versions = int(second["metadata"]["resourceVersion"]) - int(made["metadata"]["resourceVersion"])
        assert second["data"] == ({"first": "1", "second": "2"} if versions == 2 else {"second": "2"})
        committed += versions == 2 and first.cancelled()
    assert committed, "no write was on its way when its caller was cancelled"
