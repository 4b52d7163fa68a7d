"""What a real cluster's nodes offer to images, and what becomes of a run whose image they can't run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gpuyard.building.layers.layer_upload import descriptor_of
from gpuyard.images.oci import OCI_CONFIG, OCI_MANIFEST, Config, Manifest, Platform, parse_manifest
from gpuyard.images.places import Places
from gpuyard.images.store import read_blob
from gpuyard.images.transfer import ensure_blobs
from tests.cluster.gpuyard_on import CONTEXT, Gpuyard
from tests.waiting import until

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_INJECTION = "gpuyard.io/gpu-injection"
_TOLERATE = "--toleration=nvidia.com/gpu"


def variant(
    image: str,
    tag: str,
    *,
    env: tuple[str, ...] = (),
    labels: dict[str, str] | None = None,
    machine: str = "amd64",
) -> str:
    """The image under another tag of its repository, with a config that says something else of it."""

    async def make() -> str:
        async with Places({}) as places:
            place = await places.open(image, write=True)
            found, content = await place.store.get_manifest(place.target)
            manifest = parse_manifest(content, found.media_type)
            assert isinstance(manifest, Manifest)
            config = Config.parse(await read_blob(place.store, manifest.config))
            container = config.container
            changed = replace(
                config,
                platform=Platform("linux", machine),
                container=replace(container, env=(*container.env, *env), labels=labels or {}),
            )
            descriptor, blob = descriptor_of(OCI_CONFIG, changed.to_bytes())
            await ensure_blobs(place.store, [blob])
            document = replace(manifest, config=descriptor).to_bytes()
            await place.store.put_manifest(document, OCI_MANIFEST, tag)
        return f"{image.rpartition(':')[0]}:{tag}"

    return asyncio.run(make())


def checked(gpuyard: Gpuyard, image: str) -> tuple[int, Any]:
    """`image check` against the cluster's nodes."""
    done = gpuyard.run("image", "check", image, f"--context={CONTEXT}", "-o", "json")
    return done.code, json.loads(done.out)


def job_of(gpuyard: Gpuyard, team: str, name: str) -> Any:
    return json.loads(gpuyard.cluster.kubectl("get", "job", name, f"-n={team}", "-o=json"))


@pytest.fixture
def too_new(image: str) -> str:
    """For a CUDA that no driver here has."""
    env = ("CUDA_VERSION=14.0.0", "NVIDIA_REQUIRE_CUDA=cuda>=14.0")
    return variant(image, "cuda-14", env=env)


def test_images_are_checked_against_the_labels_that_the_agents_wrote(
    gpuyard: Gpuyard, image: str, too_new: str
) -> None:
    code, report = checked(gpuyard, variant(image, "cuda-12.4", env=("CUDA_VERSION=12.4.1",)))
    assert (code, report["fits"]) == (0, True)
    rows = [
        (n["node"], n["driver"], n["cuda"], n["compute_capability"], n["simulated"]) for n in report["nodes"]
    ]
    assert rows == [(node, "580.95.05", "13.0", "9.0", True) for node in sorted(gpuyard.cluster.nodes)]
    assert {n["outcome"] for n in report["nodes"]} == {"fits"}
    code, report = checked(gpuyard, too_new)
    assert (code, report["fits"]) == (1, False)
    assert {n["reasons"][0]["rule"] for n in report["nodes"]} == {"DriverTooOld"}
    # Nothing says what it uses, so nothing is against it.
    code, report = checked(gpuyard, image)
    assert (code, {n["outcome"] for n in report["nodes"]}) == (0, {"unknown"})


def test_a_run_that_no_driver_suits_is_refused_with_the_nodes_and_the_remedy(
    gpuyard: Gpuyard, too_new: str, team: str
) -> None:
    words = ("--image", too_new, "--gpus=1", "--name=newer", f"--namespace={team}", "-d")
    done = gpuyard("run", *words, "--", "true")
    assert done.code == 2
    lines = done.err.splitlines()
    assert lines[0] == f"Error: no node can run {too_new}:"
    assert lines[1].split() == ["NODE", "GPU", "DRIVER", "VERDICT"]
    assert [line.split()[0] for line in lines[2:4]] == ["node-a", "node-b"]
    verdict = (
        "doesn't fit: CUDA 14.0.0 needs a driver for CUDA 14.0 or newer, the node has 580.95.05 (CUDA 13.0)"
    )
    assert all(line.endswith(verdict) for line in lines[2:4])
    remedy = "use an image for CUDA 11.8 to 13.0; --wait submits it all the same"
    assert lines[4].strip() == remedy
    assert gpuyard.json("ps", f"--namespace={team}") == []


def test_who_waits_for_another_node_may_and_explain_says_the_same(
    gpuyard: Gpuyard, too_new: str, team: str
) -> None:
    words = ("--image", too_new, "--gpus=1", "--name=waits", f"--namespace={team}", "-d", "--wait")
    assert gpuyard("run", *words, "--node-selector=rack=7", "--", "true").code == 0
    until(
        lambda: "Unschedulable" in gpuyard.ok("explain", "waits", f"--namespace={team}"),
        "the scheduler's word",
    )
    said = gpuyard.ok("explain", "waits", f"--namespace={team}").splitlines()
    start = said.index("  its image doesn't run on:")
    assert [line.split()[0] for line in said[start + 1 : start + 4]] == ["NODE", "node-a", "node-b"]
    assert "CUDA 14.0.0 needs a driver for CUDA 14.0 or newer" in said[start + 2]


def test_a_torch_without_cuda_may_have_simulated_gpus(gpuyard: Gpuyard, image: str, team: str) -> None:
    labels = {"io.gpuyard.torch": "1.13.0a0", "io.gpuyard.torch-cuda": "none",
              "io.gpuyard.torch-folder": "/usr/lib/python3/dist-packages"}  # fmt: skip
    debian = variant(image, "torch-of-debian", labels=labels)
    code, report = checked(gpuyard, debian)
    assert (code, {n["outcome"] for n in report["nodes"]}) == (0, {"fits with notes"})
    assert report["needs"]["torch_source"] == "in /usr/lib/python3/dist-packages"
    words = ("--image", debian, "--gpus=1", "--name=simulated", f"--namespace={team}")
    done = gpuyard("run", *words, "--", "sh", "-c", "echo $GPUYARD_SIMULATED")
    assert (done.code, done.out.strip()) == (0, "1")
    # The same image is refused where the GPU is real.
    assert gpuyard.run("image", "check", debian, "--gpu", "H100", "--driver", "580.95.05").code == 1


@pytest.mark.parametrize("gpus", ["0", "1"])
def test_an_image_for_another_cpu_is_refused_with_and_without_gpus(
    gpuyard: Gpuyard, image: str, team: str, gpus: str
) -> None:
    words = (f"--gpus={gpus}", "--name=arm", f"--namespace={team}", _TOLERATE, "-d", "--", "true")
    done = gpuyard("run", "--image", variant(image, "arm64", machine="arm64"), *words)
    assert done.code == 2
    lines = done.err.splitlines()
    assert lines[1].split() == (
        ["NODE", "GPU", "DRIVER", "VERDICT"] if gpus == "1" else ["NODE", "CPU", "VERDICT"]
    )
    assert lines[2].endswith("doesn't fit: the image is for arm64, the node's CPU is amd64")
    assert lines[4].strip().startswith("build it with --platform linux/amd64; --wait submits it all the same")


@pytest.fixture
def legacy(gpuyard: Gpuyard) -> Iterator[str]:
    """A node whose container runtime checks NVIDIA_REQUIRE_CUDA, as its administrator says."""
    node = sorted(gpuyard.cluster.nodes)[-1]
    gpuyard.cluster.kubectl("label", "node", node, f"{_INJECTION}=legacy")
    yield node
    gpuyard.cluster.kubectl("label", "node", node, f"{_INJECTION}-")


def test_where_some_nodes_do_the_run_is_kept_off_the_others(
    gpuyard: Gpuyard, image: str, team: str, legacy: str
) -> None:
    demanding = variant(image, "cuda-13.3", env=("CUDA_VERSION=13.0.0", "NVIDIA_REQUIRE_CUDA=cuda>=13.3"))
    code, report = checked(gpuyard, demanding)
    assert code == 0
    outcomes = {n["node"]: n["outcome"] for n in report["nodes"]}
    assert outcomes == dict.fromkeys(gpuyard.cluster.nodes, "fits with notes") | {legacy: "doesn't fit"}

    # As many as would need both nodes, were they not kept off one.
    for number in range(3):
        words = ("--image", demanding, "--gpus=4", f"--name=kept-{number}", f"--namespace={team}", "-d")
        done = gpuyard("run", *words, "--", "sleep", "600")
        assert done.code == 0, done
        assert f"The image doesn't run on {legacy}: the run is kept off" in done.err
    pod = job_of(gpuyard, team, "kept-0")["spec"]["template"]["spec"]
    (term,) = pod["affinity"]["nodeAffinity"][_REQUIRED]["nodeSelectorTerms"]
    assert {"key": _INJECTION, "operator": "NotIn", "values": ["legacy"]} in term["matchExpressions"]

    def placed() -> list[tuple[str, str]]:
        found = json.loads(gpuyard.cluster.kubectl("get", "pods", f"-n={team}", "-o=json"))["items"]
        return sorted((p["spec"].get("nodeName", ""), p["status"]["phase"]) for p in found)

    good = next(node for node in gpuyard.cluster.nodes if node != legacy)
    expected = [("", "Pending"), (good, "Running"), (good, "Running")]
    until(lambda: placed() == expected, f"two on {good} and one that waits")
