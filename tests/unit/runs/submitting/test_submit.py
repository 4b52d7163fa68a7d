"""What is sent of a run in an image: on nodes that differ, with what travels with it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from gpuyard import errors
from gpuyard.cli.output.notices import print_notice
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import CONFIG_MAPS, JOBS, NODES, PRIORITY_CLASSES, Manifest
from gpuyard.kube.wellknown import ANNOTATION_SUBMITTED_AT, LABEL_GPU_MODEL
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Store
from gpuyard.runs.submitting.submit import fit_to_nodes, submit, with_gpus_as_offered, with_priority_class
from gpuyard.runs.target import Target
from gpuyard.workloads.render import render
from gpuyard.workloads.resolved_run import ResolvedRun, Script
from gpuyard.workloads.spec.run_spec import RunSpec
from tests.e2e.test_dry_run import assert_within
from tests.unit.runs.layouts import write_image
from tests.unit.runs.test_image_fit import CUDA_13, DRIVER, node, run_of


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    """Two nodes, of which one has an old driver."""
    store = await Store.open(tmp_path / "store.sqlite")
    api = ObjectApi(store, yard_kinds())
    await api.bootstrap()
    for name, driver in (("old", "535.104.05"), ("new", "580.95.05")):
        manifest = node(name, driver)
        await api.create(NODES, manifest)
        await api.update(NODES, await _with_status(api, manifest), subresource="status")
    yield Target(cast("RestApi", api), "default", is_yard=True)
    await store.close()


async def _with_status(api: ObjectApi, manifest: Manifest) -> Manifest:
    found = await api.get(NODES, manifest["metadata"]["name"])
    return {**found, "status": manifest["status"]}


def with_script(run: ResolvedRun) -> ResolvedRun:
    spec = dataclasses.replace(run.spec, run=("train.py",))
    return dataclasses.replace(
        run, spec=spec, script=Script("train.py", "print(1)"), launcher={"launcher.py": "the launcher"}
    )


async def test_what_is_printed_is_what_is_sent(target: Target, tmp_path: Path) -> None:
    image = await write_image(tmp_path / "layout", "linux/amd64", env=CUDA_13)
    run = with_script(run_of(image))
    fitted = await fit_to_nodes(target, run, print_notice, environ={}, refuse=True)
    # Kept off the old driver.
    assert fitted.excluded_nodes == {"key": DRIVER, "operator": "NotIn", "values": ["535.104.05"]}
    assert fitted == await fit_to_nodes(target, run, print_notice, environ={}, refuse=False)
    config_map, job = render(fitted)
    sent = await submit(target, run, print_notice, environ={})
    del sent["metadata"]["annotations"][ANNOTATION_SUBMITTED_AT]
    assert sent == job
    assert_within(job, await target.api.get(JOBS, "train", "default"))
    assert_within(config_map, await target.api.get(CONFIG_MAPS, config_map["metadata"]["name"], "default"))


async def test_what_fits_no_node_is_refused_before_anything_is_made(target: Target, tmp_path: Path) -> None:
    image = await write_image(tmp_path / "layout", "linux/amd64", env=CUDA_13)
    run = with_script(run_of(image, "9"))
    with pytest.raises(errors.UsageError, match="no node could ever run this"):
        await submit(target, run, print_notice, environ={})
    assert (await target.api.list(CONFIG_MAPS, "default")).items == []
    await submit(target, run, print_notice, environ={}, wait=True)
    assert len((await target.api.list(CONFIG_MAPS, "default")).items) == 1


async def test_a_priority_that_is_misspelt(target: Target) -> None:
    urgent = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1}
    await target.api.create(PRIORITY_CLASSES, urgent | {"metadata": {"name": "urgent"}})
    run = ResolvedRun(RunSpec(run=("true",), priority="hihg"), "a", "default", image="i:1")
    with pytest.raises(errors.UsageError, match="there is no PriorityClass 'hihg'") as caught:
        await with_priority_class(target, run)
    assert caught.value.remedy.startswith("did you mean high? there are: high, low, ")
    assert caught.value.remedy.endswith(", urgent")


async def add_amd(target: Target, model: str = "MI300X") -> None:
    """A node with eight of AMD's GPUs."""
    api = cast("ObjectApi", target.api)
    manifest = node("amd", "")
    manifest["metadata"]["labels"] = {LABEL_GPU_MODEL: model, "kubernetes.io/arch": "amd64"}
    amounts = {"amd.com/gpu": "8", "cpu": "64", "memory": "512Gi", "pods": "110"}
    manifest["status"] |= {"allocatable": amounts, "capacity": amounts}
    await api.create(NODES, manifest)
    await api.update(NODES, await _with_status(api, manifest), subresource="status")


async def remove_nvidias(target: Target) -> None:
    for name in ("old", "new"):
        await target.api.delete(NODES, name)


def asked_for(job: Manifest) -> dict[str, str]:
    resources: dict[str, str] = job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    return resources


@pytest.mark.parametrize("wait", [False, True])
async def test_a_run_gets_what_gpus_there_are(target: Target, tmp_path: Path, *, wait: bool) -> None:
    """An image isn't judged by what CUDA needs of GPUs where they are AMD's."""
    await add_amd(target)
    await remove_nvidias(target)
    image = await write_image(tmp_path / "layout", "linux/amd64", env=CUDA_13)
    sent = await submit(target, with_script(run_of(image, "2")), print_notice, environ={}, wait=wait)
    assert asked_for(sent) == {"amd.com/gpu": "2"}
    keys = [each["key"] for each in sent["spec"]["template"]["spec"]["tolerations"]]
    assert keys == ["nvidia.com/gpu", "amd.com/gpu"]


async def test_where_there_are_both_it_says_how_to_choose(target: Target) -> None:
    await add_amd(target)
    said: list[str] = []
    run = await with_gpus_as_offered(target, run_of("i:1", "2"), lambda notice: said.append(notice.text))
    assert run.spec.gpus.resource == "nvidia.com/gpu"
    assert "several makers" in said[0] and "--gpus MI300X:2" in said[0]


@pytest.mark.parametrize("key", ["nodeSelector", "affinity"])
async def test_nodes_that_it_may_not_run_on_dont_choose(target: Target, key: str) -> None:
    await add_amd(target)
    term = {"matchExpressions": [{"key": LABEL_GPU_MODEL, "operator": "In", "values": ["MI300X"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    placement: dict[str, Any] = (
        {"node_selector": {LABEL_GPU_MODEL: "MI300X"}}
        if key == "nodeSelector"
        else {"affinity": {"nodeAffinity": required}}
    )
    run = run_of("i:1", "2")
    run = dataclasses.replace(run, spec=dataclasses.replace(run.spec, **placement))
    said: list[str] = []
    run = await with_gpus_as_offered(target, run, lambda notice: said.append(notice.text))
    assert (run.spec.gpus.resource, said) == ("amd.com/gpu", [])


@pytest.mark.parametrize(
    ("gpus", "resource"),
    [("MI300X:2", "amd.com/gpu"), ("H100", "nvidia.com/gpu"), ("1g.10gb", "nvidia.com/mig-1g.10gb")],
)
async def test_a_model_says_whose_it_is(target: Target, gpus: str, resource: str) -> None:
    await add_amd(target)
    await remove_nvidias(target)
    run = await with_gpus_as_offered(target, run_of("i:1", gpus), print_notice)
    assert run.spec.gpus.resource == resource
