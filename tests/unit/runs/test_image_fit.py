from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gpuyard import errors
from gpuyard.cli.commands.image_check import command
from gpuyard.cli.output.notices import print_notice
from gpuyard.compatibility.inspect import read_images
from gpuyard.runs.image_fit import ImageFit, check_before_submit, read_run_image, unfit_lines
from gpuyard.workloads.render import render
from gpuyard.workloads.resolved_run import ResolvedRun
from gpuyard.workloads.spec.gpu_request import parse_gpus
from gpuyard.workloads.spec.run_spec import RunSpec
from tests.unit.runs.layouts import write_image

CUDA_13 = {"CUDA_VERSION": "13.0.0", "PATH": "/usr/bin"}
DRIVER = "nvidia.com/cuda.driver-version.full"


def node(name: str, driver: str, product: str = "NVIDIA-H100-80GB-HBM3", gpus: str = "8") -> dict[str, Any]:
    amounts = {"nvidia.com/gpu": gpus, "cpu": "64", "memory": "512Gi", "pods": "110"}
    labels = {DRIVER: driver, "nvidia.com/gpu.product": product, "kubernetes.io/arch": "amd64"}
    return {
        "metadata": {"name": name, "labels": labels | {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {
            "allocatable": amounts,
            "capacity": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def run_of(image: str, gpus: str = "1", **more: Any) -> ResolvedRun:
    spec = RunSpec(run="python3 train.py", image=image, gpus=parse_gpus(gpus), **more)
    return ResolvedRun(spec, "train", "default", image=image)


def job_of(image: str, gpus: str = "1", **more: Any) -> dict[str, Any]:
    return dict(render(run_of(image, gpus, **more))[-1])


async def looked_at(job: dict[str, Any], nodes: list[dict[str, Any]], *, refuse: bool) -> ImageFit:
    """As a submit does it."""
    return check_before_submit(
        job, await read_run_image(job, {}, print_notice), nodes, print_notice, refuse=refuse
    )


@pytest.fixture
async def image(tmp_path: Path) -> str:
    return await write_image(tmp_path / "layout", "linux/amd64", env=CUDA_13)


async def test_no_node_fits(image: str) -> None:
    job = job_of(image)
    nodes = [node("a", "535.104.05"), node("b", "580.95.05", "Tesla-V100-SXM2-16GB")]
    with pytest.raises(errors.UsageError) as failure:
        await looked_at(job, nodes, refuse=True)
    assert failure.value.message.splitlines() == [
        f"no node can run {image}:",
        "  NODE   GPU                     DRIVER       VERDICT",
        "  a      NVIDIA-H100-80GB-HBM3   535.104.05   doesn't fit: CUDA 13.0.0 needs driver 580 or newer, "
        "the node has 535.104.05 (CUDA 12.2)",
        "  b      Tesla-V100-SXM2-16GB    580.95.05    doesn't fit: CUDA 13.0.0 has dropped volta GPUs "
        "(compute capability 7.0); the last for them is 12",
    ]
    assert "--wait submits it all the same" in failure.value.remedy
    assert await looked_at(job, nodes, refuse=False) == ImageFit()


async def test_only_nodes_that_the_run_could_go_to_are_named(image: str) -> None:
    job = job_of(image, "H100:1")
    nodes = [node("a", "535.104.05"), node("b", "580.95.05"), node("c", "470.82.01", "Tesla-T4")]
    for each in nodes:
        each["metadata"]["labels"]["gpuyard.io/gpu-model"] = (
            "T4" if each["metadata"]["name"] == "c" else "H100"
        )
    found = await looked_at(job, nodes, refuse=True)
    # The T4 is no candidate, so its driver isn't named.
    assert found.excluded_nodes == {"key": DRIVER, "operator": "NotIn", "values": ["535.104.05"]}


async def test_pods_are_kept_off_the_others(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [node("a", "535.104.05"), node("b", "580.95.05")]
    found = await looked_at(job_of(image), nodes, refuse=True)
    assert found.excluded_nodes == {"key": DRIVER, "operator": "NotIn", "values": ["535.104.05"]}
    assert capsys.readouterr().err == (
        "The image doesn't run on a: the run is kept off (see `gpuyard image check`)\n"
    )


async def test_nodes_that_the_run_can_t_go_to_don_t_count(image: str) -> None:
    job = job_of(image, "8")
    few = node("few", "580.95.05", gpus="4")
    with pytest.raises(errors.UsageError, match="no node can run"):
        await looked_at(job, [few, node("a", "535.104.05")], refuse=True)


@pytest.mark.parametrize("driver", ["580.95.05", ""])
async def test_what_fits_or_isn_t_known_is_left_alone(image: str, driver: str) -> None:
    assert await looked_at(job_of(image), [node("a", driver)], refuse=True) == ImageFit()


async def test_a_registry_that_can_t_be_read_costs_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(f"oci:{tmp_path / 'nothing'}:latest")
    assert await looked_at(job, [node("a", "535.104.05")], refuse=True) == ImageFit()
    assert capsys.readouterr().err.startswith("Warning: can't look whether the image fits the nodes: ")


async def test_a_layout_without_the_image_is_believed(tmp_path: Path) -> None:
    await write_image(tmp_path / "layout", "linux/amd64", env={})
    job = job_of(f"oci:{tmp_path / 'layout'}:other")
    with pytest.raises(errors.UsageError, match="other") as caught:
        await read_run_image(job, {}, print_notice, refuse=True)
    assert "--wait" in caught.value.remedy


def without_gpus(name: str, machine: str) -> dict[str, Any]:
    """A node that has nothing but a CPU."""
    found = node(name, "", "", gpus="0")
    found["metadata"]["labels"] = {"kubernetes.io/arch": machine, "kubernetes.io/hostname": name}
    return found


async def test_a_run_without_gpus_goes_where_the_cpu_is_the_image_s(
    image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(image, "0")
    nodes = [without_gpus("pi", "arm64"), without_gpus("pc", "amd64"), without_gpus("pi2", "arm64")]
    found = await looked_at(job, nodes, refuse=True)
    assert found.excluded_nodes == {"key": "kubernetes.io/arch", "operator": "NotIn", "values": ["arm64"]}
    assert capsys.readouterr().err.startswith("The image doesn't run on pi, pi2: ")
    assert await unfit_lines(job_of(image, "0"), nodes) == [
        "  its image doesn't run on:",
        "  NODE   CPU     VERDICT",
        "  pi     arm64   doesn't fit: the image is for amd64, the node's CPU is arm64",
        "  pi2    arm64   doesn't fit: the image is for amd64, the node's CPU is arm64",
        "  build it with --platform linux/arm64",
    ]


async def test_a_run_without_gpus_that_has_no_cpu_to_run_on_is_refused(image: str) -> None:
    with pytest.raises(errors.UsageError) as failure:
        await looked_at(job_of(image, "0"), [without_gpus("pi", "arm64")], refuse=True)
    assert failure.value.message.splitlines()[1:] == [
        "  NODE   CPU     VERDICT",
        "  pi     arm64   doesn't fit: the image is for amd64, the node's CPU is arm64",
    ]
    assert failure.value.remedy == "build it with --platform linux/arm64; --wait submits it all the same"


async def test_a_run_without_gpus_asks_no_driver(image: str, tmp_path: Path) -> None:
    job = job_of(image, "0")
    assert await looked_at(job, [node("a", "470.82.01"), without_gpus("b", "")], refuse=True) == ImageFit()
    both = await write_image(tmp_path / "both", "linux/amd64", "linux/arm64", env=CUDA_13)
    job = job_of(both, "0")
    nodes = [without_gpus("pi", "arm64"), without_gpus("pc", "amd64")]
    assert await looked_at(job, nodes, refuse=True) == ImageFit()


async def test_a_registry_that_can_t_be_read_is_nothing_to_a_run_without_gpus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(f"oci:{tmp_path / 'nothing'}:latest", "0")
    await looked_at(job, [node("a", "535.104.05")], refuse=True)
    assert await unfit_lines(job, [node("a", "535.104.05")]) == []
    assert capsys.readouterr().err == ""


CPU_TORCH = {"io.gpuyard.torch": "1.13.0a0", "io.gpuyard.torch-cuda": "none",
             "io.gpuyard.torch-folder": "/usr/lib/python3/dist-packages"}  # fmt: skip


async def test_a_torch_without_cuda_is_refused_gpus(tmp_path: Path) -> None:
    image = await write_image(tmp_path / "layout", "linux/amd64", env={}, labels=CPU_TORCH)
    with pytest.raises(errors.UsageError) as failure:
        await looked_at(job_of(image), [node("a", "580.95.05")], refuse=True)
    assert (
        "its torch 1.13.0a0 (in /usr/lib/python3/dist-packages) is built without CUDA, "
        "so it would train on the CPU"
    ) in failure.value.message
    assert failure.value.remedy.startswith("require torch==2.0.1+cu118, which comes before the base's")
    assert "; GPUYARD_ALLOW_CPU=1 in env lets it go on without GPUs; --wait" in failure.value.remedy


async def test_who_allows_the_cpu_may_have_a_torch_without_cuda(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = await write_image(tmp_path / "layout", "linux/amd64", env={}, labels=CPU_TORCH)
    job = job_of(image, env={"GPUYARD_ALLOW_CPU": "1"})
    arm = node("arm", "580.95.05")
    arm["metadata"]["labels"]["kubernetes.io/arch"] = "arm64"
    found = await looked_at(job, [node("a", "580.95.05"), arm], refuse=True)
    said = capsys.readouterr().err
    assert said.startswith(f"Warning: {image} can use the GPUs of no node: its torch 1.13.0a0 ")
    assert "it goes on without them, as GPUYARD_ALLOW_CPU says\n" in said
    # Another CPU can't run it, whatever is allowed.
    assert (found.excluded_nodes or {})["values"] == ["arm64"]
    assert len(await unfit_lines(job, [node("a", "580.95.05"), arm])) == 4
    with pytest.raises(errors.UsageError, match="no node can run"):
        await looked_at(job_of(image, env={"GPUYARD_ALLOW_CPU": "1"}), [arm], refuse=True)


async def test_a_node_that_fits_is_still_preferred_where_the_cpu_is_allowed(image: str) -> None:
    job = job_of(image, env={"GPUYARD_ALLOW_CPU": "yes"})
    found = await looked_at(job, [node("a", "535.104.05"), node("b", "580.95.05")], refuse=True)
    assert (found.excluded_nodes or {})["values"] == ["535.104.05"]
    job = job_of(image, env={"GPUYARD_ALLOW_CPU": "0"})
    with pytest.raises(errors.UsageError, match="no node can run"):
        await looked_at(job, [node("a", "535.104.05")], refuse=True)


@pytest.mark.parametrize("gpus", ["1", "8"])
async def test_the_image_s_own_launcher_is_told_of(tmp_path: Path, gpus: str) -> None:
    entrypoint = ("/opt/gpuyard/venv/bin/python", "/opt/gpuyard/launcher.py", "--")
    image = await write_image(tmp_path / "layout", "linux/amd64", env={}, entrypoint=entrypoint)
    # Also where no node will do yet.
    few = node("few", "580.95.05", gpus="4")
    assert await looked_at(job_of(image, gpus), [few], refuse=False) == ImageFit(entrypoint)


async def test_another_entry_point_is_not(tmp_path: Path) -> None:
    image = await write_image(tmp_path / "layout", "linux/amd64", env={}, entrypoint=("/entrypoint.sh",))
    assert await looked_at(job_of(image), [node("a", "580.95.05")], refuse=True) == ImageFit()


async def test_explain_names_the_nodes_that_won_t_do(image: str) -> None:
    lines = await unfit_lines(job_of(image), [node("a", "535.104.05"), node("b", "580.95.05")])
    assert lines[0] == "  its image doesn't run on:"
    assert [line.split()[0] for line in lines[1:3]] == ["NODE", "a"]
    assert await unfit_lines(job_of(image), [node("b", "580.95.05")]) == []


async def test_explain_looks_at_no_image_whose_name_is_none() -> None:
    job = job_of("a")
    job["spec"]["template"]["spec"]["containers"][0]["image"] = "Not/A:Name!"
    assert await unfit_lines(job, [node("a", "535.104.05")]) == []


async def test_an_index_is_read_for_each_platform(tmp_path: Path) -> None:
    reference = await write_image(tmp_path / "layout", "linux/amd64", "linux/arm64", env=CUDA_13)
    images = await read_images(reference, {"HOME": str(tmp_path)})
    assert [image.machine for image in images] == ["amd64", "arm64"]
    assert {image.env["CUDA_VERSION"] for image in images} == {"13.0.0"}


@pytest.mark.parametrize(
    ("machines", "known"),
    [(("arm64",), ["arm64"]), ((), []), (("ppc64le",), []), (("amd64", "arm64"), ["amd64", "arm64"])],
)
async def test_of_machines_that_nobody_asks_for_the_name_is_enough(
    tmp_path: Path, machines: tuple[str, ...], known: list[str]
) -> None:
    reference = await write_image(
        tmp_path / "layout", "linux/amd64", "windows/amd64", "linux/arm64", env=CUDA_13
    )
    images = await read_images(reference, {"HOME": str(tmp_path)}, machines)
    assert sorted(image.machine for image in images) == ["amd64", "arm64"]
    assert [image.machine for image in images if image.env] == known


def check(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(command, arguments)
    assert done.exception is None or isinstance(done.exception, (SystemExit, errors.GpuyardError))
    return done.exit_code, done.output


@pytest.fixture
def stored(tmp_path: Path) -> str:
    import asyncio

    return asyncio.run(write_image(tmp_path / "layout", "linux/amd64", env=CUDA_13))


def test_image_check_against_a_stated_gpu(stored: str) -> None:
    code, text = check(stored, "--gpu", "H100", "--driver", "580.95.05")
    assert code == 0
    assert text.endswith("H100 with driver 580.95.05 (NVIDIA H100 80GB HBM3): fits\n")
    code, text = check(stored, "--gpu", "H100", "--driver", "535.104.05")
    assert code == 1
    assert "  doesn't fit: CUDA 13.0.0 needs driver 580 or newer, the node has 535.104.05 (CUDA 12.2)" in text


def test_image_check_for_machines(stored: str) -> None:
    code, text = check(stored, "--gpu", "V100", "--driver", "580.95.05", "-o", "json")
    found = json.loads(text)
    assert (code, found["fits"], found["needs"]["cuda"]) == (1, False, "13.0.0")
    assert found["needs"]["cuda_source"] == "env CUDA_VERSION"
    [row] = found["nodes"]
    assert (row["outcome"], row["compute_capability"]) == ("doesn't fit", "7.0")
    assert [reason["rule"] for reason in row["reasons"]] == ["GpuDroppedByCuda"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--driver", "580"), "--driver says which driver"),
        (("--gpu", "H1000"), ""),
    ],
)
def test_misuse(stored: str, arguments: tuple[str, ...], message: str) -> None:
    code, text = check(stored, *arguments)
    assert code != 0
    assert message in text
