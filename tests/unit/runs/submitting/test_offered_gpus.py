from __future__ import annotations

from typing import Any

import pytest

from gpuyard.kube.wellknown import LABEL_GPU_MODEL
from gpuyard.runs.submitting.offered_gpus import as_offered
from gpuyard.workloads.render import render
from gpuyard.workloads.spec.gpu_request import parse_gpus
from tests.unit.runs.test_image_fit import run_of


def node(model: str = "", **amounts: int) -> dict[str, Any]:
    """A node with so many of `nvidia.com/KEY`; `amd_gpu` is AMD's."""
    capacity = {
        f"amd.com/{name.removeprefix('amd_')}" if name.startswith("amd_") else f"nvidia.com/{name}": str(
            count
        )
        for name, count in amounts.items()
    }
    labels = {LABEL_GPU_MODEL: model} if model else {}
    return {"metadata": {"name": "a", "labels": labels}, "status": {"capacity": capacity}}


SHARES = {"gpu.shared": 4}
AMD_SHARES = {"amd_gpu.shared": 4}


@pytest.mark.parametrize(
    ("text", "nodes", "resource", "said"),
    [
        ("2", [], "nvidia.com/gpu", ""),
        ("H100:2", [], "nvidia.com/gpu", ""),
        ("H100:2", [node("H100", gpu=8)], "nvidia.com/gpu", ""),
        ("H100:2", [node("H100", h100=8)], "nvidia.com/h100", ""),
        # Another model's have the usual name: H100s still have theirs.
        ("H100:2", [node("H100", h100=8), node("A10", gpu=8)], "nvidia.com/h100", ""),
        # Both names: the usual one, as the one resource that a pod can ask for.
        ("H100:2", [node("H100", h100=8), node("H100", gpu=8)], "nvidia.com/gpu", ""),
        # Of boards with one name the one of which a node has most.
        ("A100", [node("", **{"a100-40gb": 2}), node("", **{"a100-80gb": 8})], "nvidia.com/a100-80gb", ""),
        ("H100:2", [node("A10", a10=8)], "nvidia.com/gpu", ""),
        ("H100:2", [node("H100", h100=0)], "nvidia.com/gpu", ""),
        ("MI300X", [node("MI300X", amd_mi300x=8)], "amd.com/mi300x", ""),
        # GPUs of any model, where all are named by their models.
        ("2", [node("H100", h100=8)], "nvidia.com/h100", ""),
        ("2", [node("H100", h100=8), node("A10", a10=4)], "nvidia.com/h100", "--gpus A10:2 asks for others"),
        ("2", [node(amd_mi300x=8)], "amd.com/mi300x", ""),
        ("1g.10gb", [node("H100", h100=8)], "nvidia.com/mig-1g.10gb", ""),
        ("shared", [node("H100", gpu=8, **SHARES)], "nvidia.com/gpu.shared", ""),
        ("shared", [node("H100", gpu=8), node("MI300X", **AMD_SHARES)], "amd.com/gpu.shared", ""),
        ("shared:2", [node("H100", **SHARES), node("MI300X", **AMD_SHARES)], "nvidia.com/gpu.shared",
         "--gpus MI300X.shared:2 asks for others"),
        ("shared", [node("H100", gpu=8)], "nvidia.com/gpu.shared", ""),
    ],
)  # fmt: skip
def test_gpus_are_asked_for_by_the_name_that_nodes_have_for_them(
    text: str, nodes: list[dict[str, Any]], resource: str, said: str
) -> None:
    found, notice = as_offered(parse_gpus(text), nodes)
    assert found.resource == resource
    assert said in notice and bool(said) == bool(notice)


def test_a_pod_with_a_model_s_resource_needs_no_label_and_one_with_shares_checks_for_one_gpu() -> None:
    from dataclasses import replace

    run = run_of("i:1")

    def pod(gpus: str, *nodes: dict[str, Any]) -> dict[str, Any]:
        found, _ = as_offered(parse_gpus(gpus), nodes)
        spec: dict[str, Any] = render(replace(run, spec=replace(run.spec, gpus=found)))[-1]["spec"]
        return dict(spec["template"]["spec"])

    named = pod("H100:2", node(h100=8))
    assert named["containers"][0]["resources"]["limits"] == {"nvidia.com/h100": "2"}
    assert "affinity" not in named
    shares = pod("H100.shared:2", node("H100", **SHARES))
    assert shares["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu.shared": "2"}
    terms = shares["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms["nodeSelectorTerms"][0]["matchExpressions"][0]["key"] == LABEL_GPU_MODEL
    # Two shares may be of one GPU, and the launcher looks how many CUDA sees.
    env = {each["name"]: each["value"] for each in shares["containers"][0]["env"]}
    assert env["GPUYARD_GPUS"] == "1"
