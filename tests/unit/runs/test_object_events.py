from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gpuyard.kube.objects import EVENTS, JOBS, PODS, Manifest
from gpuyard.kube.wellknown import ANNOTATION_STOPPED_AT
from gpuyard.runs.object_events import (
    EventsOfRun,
    event_count,
    event_json,
    follow_events,
    in_order,
    read_events,
    telling_events,
)
from gpuyard.runs.run import Run, find_run, make_run
from gpuyard.runs.target import Target

MOMENT = "2026-01-31T12:00:00Z"
POD_SPEC = {
    "restartPolicy": "Never",
    "containers": [{"name": "main", "image": "i", "command": ["x"]}],
    "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "imagenet"}}],
}


def job(**status: Any) -> Manifest:
    annotations = {ANNOTATION_STOPPED_AT: MOMENT} if "conditions" in status else {}
    metadata = {"name": "a", "uid": "1", "creationTimestamp": MOMENT, "annotations": annotations}
    return {"metadata": metadata, "spec": {"template": {"spec": POD_SPEC}}, "status": status}


def event(about: str, message: str = "", *, uid: str = "1", version: str = "1", **fields: Any) -> Manifest:
    kind, name = about.split("/")
    involved = {"kind": kind, "name": name, "uid": uid, "namespace": "default"}
    metadata = {"name": f"e{version}", "namespace": "default", "resourceVersion": version}
    times = {"lastTimestamp": MOMENT}
    return {"metadata": metadata, "involvedObject": involved, "message": message, **times, **fields}


def test_they_are_about_the_job_its_pods_gone_or_not_and_its_claims() -> None:
    events = [
        event("Pod/a-gone1", "was there", uid="7", version="9"),
        event("Job/a", "Created pod: a-gone1"),
        event("Job/a", "(combined from similar events): Created pod: a-gone2", version="2"),
        event("Job/a", "of the run before it", uid="0"),
        event("Pod/a-gone2", "was there, too", uid="8", version="10"),
        event("PersistentVolumeClaim/imagenet", "bound", version="11"),
        event("PersistentVolumeClaim/other", "bound"),
        event("Pod/a-b-x7k2q", "of the run a-b"),
    ]
    found = EventsOfRun(make_run(job(), [])).of(events)
    assert [one["metadata"]["resourceVersion"] for one in found] == ["1", "2", "9", "10", "11"]


def test_those_of_one_second_are_in_the_order_of_their_writing() -> None:
    def at(version: str, moment: str = MOMENT) -> dict[str, object]:
        return {"metadata": {"resourceVersion": version}, "lastTimestamp": moment}

    events = [at("100"), at("9"), at("11"), at("200", "2026-01-31T11:00:00Z"), at("odd")]
    found = [one["metadata"]["resourceVersion"] for one in in_order(events)]
    assert found == ["200", "odd", "9", "11", "100"]


def test_the_scheduler_s_count_in_series() -> None:
    series = {"count": 4, "lastObservedTime": "2026-01-31T12:05:00.000000Z"}
    found = event("Pod/a", lastTimestamp=None, eventTime=f"{MOMENT[:-1]}.5Z", series=series)
    assert (event_count(found), event_json(found)["last_seen"]) == (4, series["lastObservedTime"])


@pytest.mark.parametrize("stopped", [True, False])
def test_a_stopped_run_did_not_reach_a_limit(stopped: bool) -> None:
    status = {"conditions": [{"type": "Failed", "status": "True"}]} if stopped else {}
    events = [{"reason": "SuccessfulCreate"}, {"reason": "BackoffLimitExceeded"}]
    run = make_run(job(**status), [])
    assert telling_events(run, events) == (events[:1] if stopped else events)


async def submitted(target: Target) -> Run:
    labels = {"gpuyard.io/run": "a"}
    template = {"metadata": {"labels": labels}, "spec": POD_SPEC}
    made = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a", "labels": labels}}
    await target.api.create(JOBS, {**made, "spec": {"template": template}}, "default")
    return await find_run(target, "a")


async def write(target: Target, said: Manifest) -> None:
    metadata = {"name": said["metadata"]["name"], "namespace": "default"}
    await target.api.create(EVENTS, {"apiVersion": "v1", "kind": "Event", **said, "metadata": metadata})


async def test_new_ones_are_followed_also_of_pods_that_come_later(target: Target) -> None:
    run = await submitted(target)
    uid = run.job["metadata"]["uid"]
    await write(target, event("Job/a", "first", uid=uid))
    told = follow_events(target, run)
    try:
        async with asyncio.timeout(60):
            assert (await anext(told))["message"] == "first"
            # Of a pod that isn't known yet.
            await write(target, event("Pod/a-new", "pulled", version="2"))
            labels = {"gpuyard.io/run": "a"}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a-new", "labels": labels}}
            await target.api.create(PODS, {**pod, "spec": {**POD_SPEC, "volumes": []}}, "default")
            assert (await anext(told))["message"] == "pulled"
            await target.api.patch(EVENTS, "e1", {"count": 2}, "default")
            assert event_count(await anext(told)) == 2
    finally:
        await told.aclose()
    assert [one["message"] for one in await read_events(target, run)] == ["first"]
