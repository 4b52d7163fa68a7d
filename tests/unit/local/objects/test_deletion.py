"""What a delete does: at once, with grace, behind finalizers."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest

from gpuyard import errors
from gpuyard.client.api import Propagation
from gpuyard.kube.objects import CONFIG_MAPS, JOBS, NAMESPACES, PODS, Manifest, ObjectKey, Resource
from gpuyard.local.objects.admission import is_dry_run
from gpuyard.local.objects.deletion import DeleteOptions, parse_delete_options
from gpuyard.local.objects.verbs import ObjectApi


async def make_pod(api: ObjectApi, *, node: str = "", phase: str = "", **metadata: Any) -> Manifest:
    container = {"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}
    pod = {
        "metadata": {"name": "p", "namespace": "default", **metadata},
        "spec": {"runtimeClassName": "gpuyard-process", "containers": [container]},
    }
    await api.create(PODS, pod)
    if node:
        await api.bind("default", "p", node)
    if phase:
        await api.patch(PODS, "p", {"status": {"phase": phase}}, "default", subresource="status")
    return await api.get(PODS, "p", "default")


async def is_gone(api: ObjectApi, resource: Resource, name: str, namespace: str | None = "default") -> bool:
    try:
        await api.get(resource, name, namespace)
    except errors.NotFound:
        return True
    return False


async def test_what_nothing_holds_goes_at_once(api: ObjectApi) -> None:
    await api.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "default"}})
    await api.delete(CONFIG_MAPS, "a", "default")
    assert await is_gone(api, CONFIG_MAPS, "a")
    with pytest.raises(errors.NotFound, match='configmaps "a" not found'):
        await api.delete(CONFIG_MAPS, "a", "default")


@pytest.mark.parametrize(("node", "phase"), [("", ""), ("n1", "Succeeded"), ("n1", "Failed")])
async def test_a_pod_that_no_kubelet_runs_goes_at_once(api: ObjectApi, node: str, phase: str) -> None:
    await make_pod(api, node=node, phase=phase)
    await api.delete(PODS, "p", "default")
    assert await is_gone(api, PODS, "p")


async def test_the_longest_grace_that_the_api_takes_can_be_shortened(api: ObjectApi) -> None:
    await make_pod(api, node="n1", phase="Running")
    await api.delete(PODS, "p", "default", grace_period_s=2**63 - 1)
    marked = await api.get(PODS, "p", "default")
    assert marked["metadata"]["deletionTimestamp"] == "2126-01-07T12:00:00Z"
    await api.delete(PODS, "p", "default", grace_period_s=1)
    marked = await api.get(PODS, "p", "default")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 1
    assert marked["metadata"]["deletionTimestamp"] == "2026-01-31T12:00:01Z"


async def test_a_running_pod_gets_its_grace_and_goes_with_grace_0(api: ObjectApi) -> None:
    await make_pod(api, node="n1", phase="Running")
    await api.delete(PODS, "p", "default")
    marked = await api.get(PODS, "p", "default")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    assert marked["metadata"]["deletionTimestamp"] == "2026-01-31T12:00:30Z"
    assert marked["metadata"]["generation"] == 2
    await api.delete(PODS, "p", "default", grace_period_s=0)
    assert await is_gone(api, PODS, "p")


async def test_a_grace_period_can_only_be_shortened(api: ObjectApi) -> None:
    await make_pod(api, node="n1", phase="Running")
    await api.delete(PODS, "p", "default", grace_period_s=20)
    first = await api.get(PODS, "p", "default")
    await api.delete(PODS, "p", "default", grace_period_s=40)
    assert await api.get(PODS, "p", "default") == first
    await api.delete(PODS, "p", "default", grace_period_s=5)
    shorter = (await api.get(PODS, "p", "default"))["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 5
    assert shorter["deletionTimestamp"] == "2026-01-31T12:00:05Z"


async def test_a_finalizer_holds_a_pod_until_it_is_removed(api: ObjectApi) -> None:
    await make_pod(api, node="n1", phase="Running", finalizers=["gpuyard.io/test"])
    await api.delete(PODS, "p", "default", grace_period_s=0)
    held = (await api.get(PODS, "p", "default"))["metadata"]
    assert held["deletionGracePeriodSeconds"] == 0
    with pytest.raises(errors.Invalid, match="no new finalizers can be added if the object is being deleted"):
        await api.patch(
            PODS, "p", {"metadata": {"finalizers": ["gpuyard.io/test", "gpuyard.io/more"]}}, "default"
        )
    answer = await api.patch(PODS, "p", {"metadata": {"finalizers": None}}, "default")
    assert answer["metadata"]["name"] == "p"
    assert await is_gone(api, PODS, "p")


async def test_removing_the_last_finalizer_leaves_a_pod_its_grace(api: ObjectApi) -> None:
    await make_pod(api, node="n1", phase="Running", finalizers=["gpuyard.io/test"])
    await api.delete(PODS, "p", "default")
    await api.patch(PODS, "p", {"metadata": {"finalizers": None}}, "default")
    assert not await is_gone(api, PODS, "p")


@pytest.mark.parametrize(
    ("propagation", "finalizers"),
    [
        (Propagation.FOREGROUND, ["foregroundDeletion"]),
        (Propagation.ORPHAN, ["orphan"]),
        (None, ["orphan"]),
        (Propagation.BACKGROUND, None),
    ],
)
async def test_propagation_of_a_job(
    api: ObjectApi, propagation: Propagation | None, finalizers: list[str] | None
) -> None:
    pod = await make_pod(api)
    template = {"spec": {**pod["spec"], "restartPolicy": "Never"}}
    await api.create(
        JOBS, {"metadata": {"name": "j", "namespace": "default"}, "spec": {"template": template}}
    )
    await api.delete(JOBS, "j", "default", propagation=propagation)
    if finalizers is None:
        assert await is_gone(api, JOBS, "j")
    else:
        held = (await api.get(JOBS, "j", "default"))["metadata"]
        assert held["finalizers"] == finalizers
        assert held["deletionTimestamp"]
        await api.delete(JOBS, "j", "default", propagation=Propagation.BACKGROUND)
        assert await is_gone(api, JOBS, "j")


async def test_preconditions(api: ObjectApi) -> None:
    made = await api.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "default"}})
    with pytest.raises(errors.Conflict, match=r"the UID in the precondition \(other\) does not match"):
        await api.delete(CONFIG_MAPS, "a", "default", uid="other")
    spec, key = api.kinds.of(CONFIG_MAPS), ObjectKey("default", "a")
    with pytest.raises(
        errors.Conflict, match=r"the ResourceVersion in the precondition \(1\) does not match"
    ):
        await api.delete_raw(spec, key, DeleteOptions(resource_version="1"))
    await api.delete_raw(
        spec,
        key,
        DeleteOptions(uid=made["metadata"]["uid"], resource_version=made["metadata"]["resourceVersion"]),
    )
    assert await is_gone(api, CONFIG_MAPS, "a")


async def test_a_namespace_is_emptied_before_it_goes(api: ObjectApi) -> None:
    await api.create(NAMESPACES, {"metadata": {"name": "team"}})
    await api.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": "team"}})
    await api.delete(NAMESPACES, "team")
    marked = await api.get(NAMESPACES, "team")
    assert marked["status"]["phase"] == "Terminating"
    with pytest.raises(errors.Forbidden, match="because it is being terminated") as caught:
        await api.create(CONFIG_MAPS, {"metadata": {"name": "b", "namespace": "team"}})
    assert caught.value.details["causes"][0]["reason"] == "NamespaceTerminating"
    with pytest.raises(errors.Conflict, match="automatically be purged by the system"):
        await api.delete(NAMESPACES, "team")
    marked["spec"]["finalizers"] = []
    await api.update(NAMESPACES, marked, subresource="finalize")
    assert await is_gone(api, NAMESPACES, "team", None)


async def test_no_object_is_created_behind_the_back_of_a_namespace_delete(api: ObjectApi) -> None:
    """The delete is on its way to disk, and not yet committed, when the create comes."""
    import asyncio

    await api.create(NAMESPACES, {"metadata": {"name": "team"}})
    deleting = asyncio.create_task(api.delete(NAMESPACES, "team"))
    await asyncio.sleep(0)
    assert "deletionTimestamp" not in (await api.get(NAMESPACES, "team"))["metadata"]
    with pytest.raises(errors.Forbidden, match="being terminated"):
        await api.create(CONFIG_MAPS, {"metadata": {"name": "b", "namespace": "team"}})
    await deleting


async def test_finalize_changes_nothing_else(api: ObjectApi) -> None:
    made = await api.create(NAMESPACES, {"metadata": {"name": "team"}})
    changed = {
        **made,
        "metadata": {**made["metadata"], "labels": {"a": "b"}},
        "spec": {"finalizers": ["x.io/y"]},
    }
    written = await api.update(NAMESPACES, changed, subresource="finalize")
    assert written["spec"] == {"finalizers": ["x.io/y"]}
    assert written["metadata"]["labels"] == made["metadata"]["labels"]
    assert not await is_gone(api, NAMESPACES, "team", None)


@pytest.mark.parametrize("name", ["default", "kube-system"])
async def test_some_namespaces_stay(api: ObjectApi, name: str) -> None:
    with pytest.raises(errors.Forbidden, match="this namespace may not be deleted"):
        await api.delete(NAMESPACES, name)


async def test_a_pod_that_is_being_deleted_is_not_bound(api: ObjectApi) -> None:
    await make_pod(api, finalizers=["gpuyard.io/test"])
    await api.delete(PODS, "p", "default")
    with pytest.raises(errors.Conflict, match="pod p is being deleted, cannot be assigned to a host"):
        await api.bind("default", "p", "n1")


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        ("", None, DeleteOptions()),
        ("gracePeriodSeconds=0&propagationPolicy=Foreground", None, DeleteOptions(0, Propagation.FOREGROUND)),
        ("", {"gracePeriodSeconds": 5, "propagationPolicy": "Orphan"}, DeleteOptions(5, Propagation.ORPHAN)),
        ("", {"orphanDependents": False}, DeleteOptions(None, Propagation.BACKGROUND)),
        (
            "dryRun=All",
            {"preconditions": {"uid": "u", "resourceVersion": "7"}},
            DeleteOptions(uid="u", resource_version="7", dry_run=True),
        ),
    ],
)
def test_delete_options(query: str, body: Any, expected: DeleteOptions) -> None:
    assert parse_delete_options(body, dict(parse_qsl(query))) == expected


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ([], "must be a DeleteOptions object"),
        (
            {"gracePeriodSeconds": "5"},
            "cannot unmarshal string into .*DeleteOptions.gracePeriodSeconds of type int64",
        ),
        ({"propagationPolicy": "Sideways"}, 'propagationPolicy: Unsupported value: "Sideways"'),
    ],
)
def test_wrong_delete_options(body: Any, problem: str) -> None:
    with pytest.raises(errors.ApiError, match=problem):
        parse_delete_options(body)


def test_dry_run_is_all_or_nothing() -> None:
    assert is_dry_run("CreateOptions", "All")
    assert is_dry_run("CreateOptions", ["All"])
    assert not is_dry_run("CreateOptions", "")
    with pytest.raises(errors.Invalid, match="supported values"):
        is_dry_run("CreateOptions", "Some")
