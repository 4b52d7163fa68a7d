"""What is sent of a run in an image: on nodes that differ, with what travels with it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from gpuyard import errors
from gpuyard.cli.output.notices import print_notice
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import CONFIG_MAPS, JOBS, NODES, PRIORITY_CLASSES, Manifest
from gpuyard.kube.wellknown import ANNOTATION_SUBMITTED_AT
from gpuyard.local.objects.kinds.served import yard_kinds
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Store
from gpuyard.runs.submitting.submit import fit_to_nodes, submit, with_priority_class
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
    return dataclasses.replace(run, spec=spec, script=Script("train.py", "print(1)"), launcher="the launcher")


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
