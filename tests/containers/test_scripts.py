"""A script of this machine in images that have Python, on a yard, through podman."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gpuyard.local.runtime.podman.host import Podman
from tests.e2e.conftest import Yard, own_yard, shared_yard, stopped_yard, yard
from tests.e2e.test_stop_and_rm import PIPED, PIPED_SAYS
from tests.images.conftest import Site, debian_tar, site
from tests.waiting import until

__all__ = ["debian_tar", "own_yard", "shared_yard", "site", "stopped_yard", "yard"]

pytestmark = pytest.mark.slow

_TRAIN = "import sys\nprint(sys.argv[1:])\n"


@pytest.fixture(scope="module")
def debian(site: Site, podman: Podman) -> Iterator[str]:
    """Debian with Python, which knows nothing of gpuyard."""
    yield site.base
    subprocess.run(["podman", "rmi", "--force", "--ignore", site.base], capture_output=True, check=True)


@pytest.fixture(scope="module")
def built(site: Site, podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image that `gpuyard build` made of a folder with a script and a module."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "src").mkdir()
    for name in ("model.py", "src/layers.py"):
        (folder / name).write_text("NAME = __file__\n")
    (folder / "train.py").write_text("print('the image\\'s own')\n")
    name = f"{site.registry}/built/scripts:v1"
    site.ok("build", "--base", site.base, "-t", name, cwd=folder)
    yield name
    subprocess.run(["podman", "rmi", "--force", "--ignore", name], capture_output=True, check=True)


def config_maps(yard: Yard) -> list[dict[str, Any]]:
    """Those of runs."""
    found = yard.api("GET", "/api/v1/namespaces/default/configmaps?labelSelector=gpuyard.io/run")
    return list(found["items"])


def test_a_script_runs_and_goes_with_its_run(yard: Yard, debian: str) -> None:
    file = yard.script("train.py", _TRAIN + "sys.exit(7)\n")
    words = ("--image", debian, "-n", "train", "--gpus", "2", "train.py")
    done = yard.call("run", *words, "--", "--epochs", "3 and $HOME")
    assert (done.code, done.out) == (7, "['--epochs', '3 and $HOME']\n"), done
    assert done.err.splitlines()[0] == "Submitted train (2 GPUs, simulated) with train.py from here"
    [config_map] = config_maps(yard)
    assert config_map["data"]["script"] == file.read_text()
    yard.script("train.py", _TRAIN)
    assert yard.ok("run", "--replace", *words) == "[]\n"
    yard.ok("run", "--replace", *words)
    until(lambda: len(config_maps(yard)) == 1, "the former script is gone")
    assert config_maps(yard)[0]["metadata"]["name"] != config_map["metadata"]["name"]
    yard.ok("rm", "train")
    until(lambda: not config_maps(yard), "the script went with its run")


def test_it_finds_the_modules_of_the_image_s_folder(yard: Yard, built: str) -> None:
    show = "import model, layers, os\nprint(model.NAME, layers.NAME, os.getcwd(), os.environ['PYTHONPATH'])\n"
    (yard.work / "src").mkdir()
    yard.script("src/train.py", show)
    words = ("--image", built, "--env", "PYTHONPATH=/mine", "src/train.py")
    workspace = "/workspace"
    assert yard.ok("run", *words).split() == [
        f"{workspace}/model.py", f"{workspace}/src/layers.py", workspace,
        f"{workspace}/src:{workspace}:/mine",
    ]  # fmt: skip


def test_without_a_file_here_it_is_the_image_s_own(yard: Yard, built: str) -> None:
    assert yard.ok("run", "--image", built, "--gpus", "1", "train.py") == "the image's own\n"
    assert config_maps(yard) == []
    yard.script("train.py", "print('from here')")
    assert yard.ok("run", "--image", built, "--gpus", "1", "train.py") == "from here\n"
    # Said in so many words it is the image's.
    assert yard.ok("run", "--image", built, "--gpus", "1", "--", "python", "train.py") == "the image's own\n"


def test_an_image_that_is_built_for_the_run_brings_its_variables(yard: Yard, debian: str, site: Site) -> None:
    yard.script("show.py", "import os\nprint(os.environ['BAKED'], os.environ['OWN'])\n")
    spec = yard.script(
        "gpuyard.yaml",
        "run: python show.py\nname: baked\n"
        "env:\n  BAKED: {value: in the image, bake: true}\n  OWN: of the run\n"
        f"image: {{base: '{debian}', repository: '{site.registry}/built/baked:v1', labels: {{team: ml}}}}\n",
    )
    assert yard.ok("run", "-f", str(spec)) == "in the image of the run\n"
    [pod] = yard.get("/api/v1/namespaces/default/pods?labelSelector=gpuyard.io/run=baked")["items"]
    # Once, by the image.
    assert "BAKED" not in json.dumps(pod) and "OWN" in json.dumps(pod)
    image = pod["spec"]["containers"][0]["image"]
    again = yard.call("run", "-f", str(spec), "--replace", "--env", "BAKED=by hand")
    assert again.out == "by hand of the run\n" and "Built" not in again.err
    subprocess.run(["podman", "rmi", "--force", "--ignore", image], capture_output=True, check=True)


def test_gpus_that_are_not_there_end_the_run(yard: Yard, debian: str) -> None:
    yard.script("train.py", _TRAIN)
    # No GPU is asked of the yard, so that none is simulated either.
    words = ("--image", debian, "--env", "GPUYARD_GPUS=1")
    done = yard.call("run", *words, "train.py")
    assert done.code == 78
    assert done.out.startswith("gpuyard: this run asked for 1 GPU, and no GPU's device node is there: ")
    done = yard.call("run", *words, "--env", "GPUYARD_ALLOW_CPU=1", "train.py")
    assert done.code == 0 and done.out.endswith("[]\n")


@pytest.mark.parametrize("command", [("python3", "-c", "print(1)"), ("sh", "-c", "echo $((0+1))")])
def test_every_command_with_gpus_is_checked(yard: Yard, debian: str, command: tuple[str, ...]) -> None:
    words = ("--image", debian, "-n", "one", "--gpus", "1")
    assert yard.ok("run", *words, "--", *command) == "1\n"
    printed = json.loads(yard.ok("run", "--dry-run", "-o", "json", *words, "--", *command))
    yard.ok("rm", "one")
    config_map, job = printed["items"]
    # The same without the GPUs, and so without their simulation: the launcher finds none.
    del job["spec"]["template"]["spec"]["containers"][0]["resources"]
    yard.api("POST", "/api/v1/namespaces/default/configmaps", config_map)
    yard.api("POST", "/apis/batch/v1/namespaces/default/jobs", job)
    assert yard.wait_for("one", "failed")["exit_code"] == 78
    assert "no GPU's device node is there" in yard.ok("logs", "one")


@pytest.mark.parametrize("gpus", [(), ("--gpus", "1")])
@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_program_before_tee_saves_when_its_run_is_stopped(
    yard: Yard, debian: str, shell: str, gpus: tuple[str, ...]
) -> None:
    yard.ok("run", "-d", "-n", "piped", "--image", debian, *gpus, "--shell", shell, "--", PIPED)
    yard.wait_for_line("piped", "ready")
    yard.ok("stop", "piped")
    found = yard.state("piped")
    assert (found["state"], found["exit_code"]) == ("stopped", 143)
    assert yard.ok("logs", "piped") == PIPED_SAYS


def test_a_run_waits_for_its_config_map(yard: Yard, debian: str) -> None:
    yard.script("train.py", _TRAIN)
    words = ("--image", debian, "-n", "waits", "train.py")
    config_map, job = json.loads(yard.ok("run", "--dry-run", "-o", "json", *words))["items"]
    yard.api("POST", "/apis/batch/v1/namespaces/default/jobs", job)

    def told() -> list[str]:
        events: list[Mapping[str, Any]] = yard.api("GET", "/api/v1/namespaces/default/events")["items"]
        return [event["message"] for event in events if event["reason"] == "FailedMount"]

    [message] = until(told, "an event says what the pod waits for")
    name = config_map["metadata"]["name"]
    assert message == f'MountVolume.SetUp failed for volume "gpuyard" : configmap "{name}" not found'
    yard.api("POST", "/api/v1/namespaces/default/configmaps", config_map)
    yard.wait_for("waits", "succeeded")


def test_a_restarted_yard_keeps_the_script(own_yard: Yard, debian: str) -> None:
    own_yard.script(
        "train.py", "import os, time\nwhile not os.path.exists('/tmp/end'): time.sleep(0.02)\nprint('end')"
    )
    own_yard.background("steady", "--image", debian, "train.py")
    own_yard.kill_daemon()
    own_yard.ok("up")
    [folder] = own_yard.paths.pods_dir.iterdir()
    assert (folder / "volumes.d/gpuyard/run/train.py").exists()
    Path(folder / "volumes.d/tmp/end").touch()
    own_yard.wait_for("steady", "succeeded")
    assert own_yard.ok("logs", "steady") == "end\n"
