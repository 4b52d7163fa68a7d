"""A run's objects over a real API, which fails or is interrupted at every step in turn."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from gpuyard import errors
from gpuyard.cli.output.notices import print_notice
from gpuyard.client.api import Propagation
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import CONFIG_MAPS, JOBS, POD_GROUPS, SERVICES, Manifest, uid_of
from gpuyard.local.objects.kinds.job import JOB
from gpuyard.local.objects.kinds.kind import KindSpec
from gpuyard.local.objects.kinds.registry import Kinds
from gpuyard.local.objects.kinds.schema import TypeInfo, type_name, types
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Store
from gpuyard.runs.submitting.creation import create_run
from gpuyard.runs.target import Target
from gpuyard.workloads.render import render
from gpuyard.workloads.resolved_run import ResolvedRun, Script
from gpuyard.workloads.spec.run_spec import RunSpec

_LOST = errors.ConnectionFailed("the connection was cut")


class Api:
    """An API that calls back before one of the requests; `log` has them all."""

    def __init__(self, api: ObjectApi) -> None:
        self._api = api
        self.log: list[str] = []
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self.after: dict[str, Callable[[], Awaitable[None]]] = {}

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self._api, verb)

        async def request(resource: Any, *arguments: Any, **options: Any) -> Any:
            name = f"{verb} {resource.plural}"
            self.log.append(name)
            if act := self.before.pop(name, None):
                await act()
            answer = await method(resource, *arguments, **options)
            if act := self.after.pop(name, None):
                await act()
            return answer

        return request


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    # A yard serves no PodGroups, and takes no Job that names one.
    job = dataclasses.replace(JOB, validate=lambda _job, _old: [])
    fields = {"apiVersion": "s", "kind": "s", "metadata": "@meta.v1.ObjectMeta", "spec": "j"}
    monkeypatch.setitem(types(), type_name(POD_GROUPS), TypeInfo(fields, ()))
    store = await Store.open(tmp_path / "store.sqlite")
    objects = ObjectApi(store, Kinds((*yard_kinds(), KindSpec(POD_GROUPS), job)))
    await objects.bootstrap()
    yield Api(objects)
    await store.close()


def target_of(api: Api) -> Target:
    return Target(cast("RestApi", api), "default", is_yard=True)


def manifests_of(text: str = "print(1)", namespace: str = "default") -> list[Manifest]:
    spec = RunSpec(run=("train.py",), image="python:3.12")
    script = Script("train.py", text)
    run = ResolvedRun(
        spec, "train", namespace, image="python:3.12", script=script, launcher={"launcher.py": "the launcher"}
    )
    return render(run)


def manifests_of_gang(least: int = 2) -> list[Manifest]:
    """Of a run whose pods a scheduler starts together: Service, PodGroup and Job."""
    spec = RunSpec(run=("true",), image="python:3.12", nodes=4, least_nodes=least)
    run = ResolvedRun(spec, "train", "default", image="python:3.12", has_pod_group=True)
    return [one for one in render(run) if one["kind"] != "ConfigMap"]


async def config_maps(api: Api) -> list[Manifest]:
    return list((await api.list(CONFIG_MAPS, "default")).items)


async def owners(api: Api) -> list[list[str]]:
    """Of every ConfigMap, the uids."""
    return [
        [owner["uid"] for owner in config_map["metadata"].get("ownerReferences") or ()]
        for config_map in await config_maps(api)
    ]


async def job_uid(api: Api) -> str:
    return uid_of(await api.get(JOBS, "train", "default"))


async def fail() -> None:
    raise _LOST


async def test_the_config_map_comes_first_and_is_owned(api: Api) -> None:
    manifests = manifests_of()
    await create_run(target_of(api), manifests, print_notice)
    assert api.log == ["create configmaps", "create jobs", "patch configmaps"]
    [config_map] = await config_maps(api)
    assert config_map["metadata"]["ownerReferences"] == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": await job_uid(api)}
    ]
    assert config_map["data"] == manifests[0]["data"]


async def test_a_job_alone(api: Api) -> None:
    await create_run(target_of(api), manifests_of()[1:], print_notice)
    assert api.log == ["create jobs"]


@pytest.mark.parametrize("at", ["create configmaps", "create jobs"])
async def test_a_request_that_fails_leaves_nothing(api: Api, at: str) -> None:
    api.before[at] = fail
    with pytest.raises(errors.ConnectionFailed):
        await create_run(target_of(api), manifests_of(), print_notice)
    assert await config_maps(api) == []
    assert (await api.list(JOBS)).items == []


async def test_a_job_that_was_made_although_the_answer_was_lost_keeps_its_script(api: Api) -> None:
    api.after["create jobs"] = fail
    with pytest.raises(errors.ConnectionFailed):
        await create_run(target_of(api), manifests_of(), print_notice)
    assert await owners(api) == [[await job_uid(api)]]


async def test_an_owner_that_can_not_be_named_costs_a_warning(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api.before["patch configmaps"] = fail
    await create_run(target_of(api), manifests_of(), print_notice)
    assert "won't go with its run: the connection was cut" in capsys.readouterr().err
    assert await owners(api) == [[]]


async def test_what_a_kill_left_is_taken(api: Api) -> None:
    manifests = manifests_of()
    await api.create(CONFIG_MAPS, manifests[0])
    await create_run(target_of(api), manifests, print_notice)
    assert await owners(api) == [[await job_uid(api)]]


async def test_a_name_that_is_taken_keeps_its_script(api: Api) -> None:
    await create_run(target_of(api), manifests_of(), print_notice)
    before = await config_maps(api)
    with pytest.raises(errors.UsageError, match="there is a run 'train' already"):
        await create_run(target_of(api), manifests_of(), print_notice)
    assert await config_maps(api) == before
    with pytest.raises(errors.UsageError, match="there is a run 'train' already"):
        await create_run(target_of(api), manifests_of("print(2)"), print_notice)
    assert await config_maps(api) == before


async def test_the_script_of_a_run_that_was_removed_is_made_anew(api: Api) -> None:
    await create_run(target_of(api), manifests_of(), print_notice)
    [old] = await config_maps(api)
    # Nobody collects garbage here: on a cluster it would go at any moment.
    await api.delete(JOBS, "train", "default", propagation=Propagation.BACKGROUND)
    await create_run(target_of(api), manifests_of(), print_notice)
    [new] = await config_maps(api)
    assert uid_of(new) != uid_of(old)
    assert await owners(api) == [[await job_uid(api)]]


async def test_garbage_that_is_collected_meanwhile(api: Api) -> None:
    await create_run(target_of(api), manifests_of(), print_notice)
    [old] = await config_maps(api)
    await api.delete(JOBS, "train", "default", propagation=Propagation.BACKGROUND)

    async def collect() -> None:
        await api.delete(CONFIG_MAPS, old["metadata"]["name"], "default")

    api.before["get configmaps"] = collect
    await create_run(target_of(api), manifests_of(), print_notice)
    assert await owners(api) == [[await job_uid(api)]]


async def test_one_that_waits_for_its_finalizers(api: Api) -> None:
    manifests = manifests_of()
    held = manifests[0] | {"metadata": manifests[0]["metadata"] | {"finalizers": ["example.com/held"]}}
    name = held["metadata"]["name"]
    await api.create(CONFIG_MAPS, held)
    await api.delete(CONFIG_MAPS, name, "default")

    async def let_go() -> None:
        await api.patch(CONFIG_MAPS, name, {"metadata": {"finalizers": None}}, "default")

    api.after["get configmaps"] = let_go
    await create_run(target_of(api), manifests, print_notice)
    assert await owners(api) == [[await job_uid(api)]]


async def test_somebody_else_s_is_not_touched(api: Api) -> None:
    manifests = manifests_of()
    await api.create(CONFIG_MAPS, manifests[0] | {"data": {"script": "theirs"}})
    with pytest.raises(errors.UsageError, match="it isn't this run's"):
        await create_run(target_of(api), manifests, print_notice)
    [left] = await config_maps(api)
    assert left["data"] == {"script": "theirs"}


async def test_two_at_once_of_one_name_and_script(api: Api) -> None:
    """The other creates its Job between our ConfigMap, which it takes for its own, and our Job."""
    other = Api(api._api)

    async def other_first() -> None:
        await create_run(target_of(other), manifests_of(), print_notice)

    api.before["create jobs"] = other_first
    with pytest.raises(errors.UsageError, match="there is a run 'train' already"):
        await create_run(target_of(api), manifests_of(), print_notice)
    assert await owners(api) == [[await job_uid(api)]]


async def test_one_that_was_taken_back_before_it_had_an_owner(api: Api) -> None:
    async def take_back() -> None:
        [config_map] = await config_maps(api)
        await api.delete(CONFIG_MAPS, config_map["metadata"]["name"], "default")

    api.before["patch configmaps"] = take_back
    await create_run(target_of(api), manifests_of(), print_notice)
    assert await owners(api) == [[await job_uid(api)]]


@pytest.mark.parametrize("at", ["create configmaps", "create jobs", "patch configmaps"])
async def test_an_interrupt_counts_when_all_is_there(
    api: Api, at: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def interrupt() -> None:
        work.cancel()
        await asyncio.sleep(0)

    api.before[at] = interrupt
    work = asyncio.create_task(create_run(target_of(api), manifests_of(), print_notice))
    with pytest.raises(asyncio.CancelledError):
        await work
    assert await owners(api) == [[await job_uid(api)]]
    said = "train was submitted before the interrupt, and goes on. End it: gpuyard stop train"
    assert said in capsys.readouterr().err


async def test_a_namespace_that_is_not_there(api: Api) -> None:
    target = Target(cast("RestApi", api), "nowhere", is_yard=True)
    with pytest.raises(errors.UsageError, match="there is no namespace 'nowhere'"):
        await create_run(target, manifests_of(namespace="nowhere"), print_notice)


async def test_a_gang_s_service_and_group_come_first_and_are_owned(api: Api) -> None:
    await create_run(target_of(api), manifests_of_gang(), print_notice)
    assert api.log == [
        "create services",
        "create podgroups",
        "create jobs",
        "patch services",
        "patch podgroups",
    ]
    for resource in (SERVICES, POD_GROUPS):
        [owner] = (await api.get(resource, "train", "default"))["metadata"]["ownerReferences"]
        assert owner["uid"] == await job_uid(api)


async def test_the_group_of_a_submit_that_was_killed_is_taken(api: Api) -> None:
    """Admission has filled in what nobody asked for."""
    manifests = manifests_of_gang()
    filled = {**manifests[1]["spec"], "priority": 0, "disruptionMode": {"single": {}}}
    left = await api.create(POD_GROUPS, manifests[1] | {"spec": filled})
    await create_run(target_of(api), manifests, print_notice)
    assert uid_of(await api.get(POD_GROUPS, "train", "default")) == uid_of(left)


async def test_a_group_of_other_pods_is_not_touched(api: Api) -> None:
    theirs = await api.create(POD_GROUPS, manifests_of_gang(3)[1])
    with pytest.raises(errors.UsageError, match="there is a PodGroup train already, and it isn't this run's"):
        await create_run(target_of(api), manifests_of_gang(), print_notice)
    assert uid_of(await api.get(POD_GROUPS, "train", "default")) == uid_of(theirs)


async def test_a_job_that_was_made_although_the_answer_was_lost_keeps_its_group(api: Api) -> None:
    api.after["create jobs"] = fail
    with pytest.raises(errors.ConnectionFailed):
        await create_run(target_of(api), manifests_of_gang(), print_notice)
    [owner] = (await api.get(POD_GROUPS, "train", "default"))["metadata"]["ownerReferences"]
    assert owner["uid"] == await job_uid(api)
