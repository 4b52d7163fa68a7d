"""`gpuyard run` and what follows it, on a real Kubernetes."""

from __future__ import annotations

from tests.cluster.gpuyard_on import Gpuyard


def test_a_command_runs_and_its_output_and_exit_code_come_back(
    gpuyard: Gpuyard, image: str, team: str
) -> None:
    words = ("--image", image, "--gpus=2", "--name=first", f"--namespace={team}")
    done = gpuyard("run", *words, "--", "sh", "-c", "echo gpus=$CUDA_VISIBLE_DEVICES; exit 3")
    assert done.code == 3, done
    devices = done.out.strip().removeprefix("gpus=").split(",")
    assert len(set(devices)) == 2
    (row,) = gpuyard.json("ps", f"--namespace={team}")
    assert (row["name"], row["state"], row["exit_code"], row["gpus"], row["simulated"]) == (
        "first", "failed", 3, 2, True,
    )  # fmt: skip
