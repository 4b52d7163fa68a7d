"""What is sent of a run in an image: on nodes that differ, with what travels with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from gpuyard import errors
from gpuyard.cli.notices import print_notice
from gpuyard.client.rest import RestApi
from gpuyard.kube.objects import CONFIG_MAPS, JOBS, NODES, Manifest
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.store import Store
from gpuyard.runs.submit import Submission, complete, submit
from gpuyard.runs.target import Target
from gpuyard.workloads.carrying import Script
from tests.e2e.test_dry_run import assert_within
from tests.unit.runs.layouts import write_image
from tests.unit.runs.test_image_fit import CUDA_13, DRIVER, job_of, node, terms_of


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    """Two nodes, of which one has an old driver."""
    store = await Store.open(tmp_path / "store.sqlite")
    api = ObjectApi(store)
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


async def test_what_is_printed_is_what_is_sent(target: Target, tmp_path: Path) -> None:
    image = await write_image(tmp_path / "layout", "linux/amd64", env=CUDA_13)
    submission = Submission(job_of(image), Script("train.py", "print(1)"))
    config_map, job = printed = await complete(target, submission, print_notice, refuse=True)
    # Kept off the old driver, and the submission stays as it was.
    [term] = terms_of(job)
    assert term["matchExpressions"] == [{"key": DRIVER, "operator": "NotIn", "values": ["535.104.05"]}]
    assert submission.job == job_of(image)
    assert printed == await complete(target, submission, print_notice, refuse=False)
    await submit(target, submission, print_notice, replace=False, wait=False)
    assert_within(job, await target.api.get(JOBS, "train", "default"))
    assert_within(config_map, await target.api.get(CONFIG_MAPS, config_map["metadata"]["name"], "default"))


async def test_what_fits_no_node_is_refused_before_anything_is_made(target: Target, tmp_path: Path) -> None:
    image = await write_image(tmp_path / "layout", "linux/amd64", env=CUDA_13)
    submission = Submission(job_of(image, "9"), Script("train.py", ""))
    with pytest.raises(errors.UsageError, match="no node could ever run this"):
        await submit(target, submission, print_notice, replace=False, wait=False)
    assert (await target.api.list(CONFIG_MAPS, "default")).items == []
    await submit(target, submission, print_notice, replace=False, wait=True)
    assert len((await target.api.list(CONFIG_MAPS, "default")).items) == 1
