"""Images that `gpuyard run` builds and pushes for a real cluster, and that its nodes pull."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.cluster.gpuyard_on import Gpuyard
from tests.cluster.harness import namespaces
from tests.cluster.harness.cluster import Cluster
from tests.registry.conftest import free_port
from tests.registry.test_registries import HTPASSWD
from tests.unit.images.conftest import MakeWheel, make_wheel
from tests.waiting import until

__all__ = ["make_wheel"]

_TRAIN = "import demo, os\nprint('step {step}', demo.__file__, 'gpus=' + os.environ['GPUYARD_GPUS'])\n"


def repository_of(name: str) -> str:
    """Of the test's own, so that nothing is there yet."""
    return f"built/{name}"


def pushed(cluster: Cluster, repository: str, since: int) -> list[str]:
    """Digests of the blobs that somebody uploaded, by what the registry logged after `since` characters."""
    lines = cluster.log("registry")[since:].splitlines()
    puts = [unquote(line) for line in lines if f'"PUT /v2/{repository}/blobs/uploads/' in line]
    return re.findall(r"digest=(sha256:[0-9a-f]{64})", "\n".join(puts))


def layers_of(gpuyard: Gpuyard, image: str) -> dict[str, str]:
    """What each layer holds, by its digest."""
    shown = json.loads(gpuyard.run("image", "show", image, "-o", "json").out)
    return {layer["digest"]: layer["holds"] for layer in shown["platforms"][0]["layers"]}


def pod_of(cluster: Cluster, namespace: str, run: str) -> dict[str, Any]:
    """The run's only pod."""
    selector = f"--selector=gpuyard.io/run={run}"
    (pod,) = json.loads(cluster.kubectl("get", "pods", f"-n={namespace}", selector, "-o=json"))["items"]
    return dict(pod)


@pytest.fixture
def folder(tmp_path: Path, make_wheel: MakeWheel) -> Path:
    """A folder with a script and a requirement, whose only index has a wheel for it."""
    make_wheel("demo")
    made = tmp_path / "app"
    made.mkdir()
    (made / "requirements.txt").write_text("demo\n")
    (made / "uv.toml").write_text(f'no-index = true\nfind-links = ["{tmp_path / "wheels"}"]\n')
    (made / "train.py").write_text(_TRAIN.format(step=1))
    return made


def test_a_run_builds_pushes_and_runs_and_after_an_edit_sends_one_layer(
    gpuyard: Gpuyard, image: str, team: str, folder: Path
) -> None:
    cluster, repository = gpuyard.cluster, repository_of(team)
    # Nobody would speak plain HTTP to this name unasked, and the nodes wouldn't at all.
    pushing = f"0.0.0.0:{cluster.state.ports['registry']}"
    spec = folder / "gpuyard.yaml"
    spec.write_text(
        f"name: built\nrun: python train.py\nresources: {{gpus: 1}}\nimage:\n  base: {image}\n"
        f"  requirements: requirements.txt\n  repository: {pushing}/{repository}:v1\n"
        f"  pull_repository: {cluster.registry}/{repository}\n"
    )
    words = ("-f", str(spec), f"--namespace={team}", f"--plain-http={pushing}")

    began, since = time.monotonic(), len(cluster.log("registry"))
    first = gpuyard("run", *words)
    print(f"built, pushed and run: {time.monotonic() - began:.2f} s")
    assert first.code == 0, first
    assert first.out == "step 1 /opt/gpuyard/venv/lib/python3.11/site-packages/demo/__init__.py gpus=1\n"
    assert "Warning" not in first.err, first.err
    container = pod_of(cluster, team, "built")["spec"]["containers"][0]
    assert re.fullmatch(rf"{cluster.registry}/{repository}@sha256:[0-9a-f]{{64}}", container["image"])
    assert f"Built {container['image']}\n" in first.err
    layers = layers_of(gpuyard, container["image"])
    new = {digest for digest, holds in layers.items() if holds.startswith("gpuyard build")}
    assert len(new) == 2 and new <= set(pushed(cluster, repository, since))

    (folder / "train.py").write_text(_TRAIN.format(step=2))
    since = len(cluster.log("registry"))
    taken = gpuyard("run", *words)
    assert taken.code == 2 and "there is a run 'built' already" in taken.err, taken
    assert "Built" not in taken.err and pushed(cluster, repository, since) == []
    began, since = time.monotonic(), len(cluster.log("registry"))
    second = gpuyard("run", *words, "--replace")
    print(f"one line changed, built, pushed and run: {time.monotonic() - began:.2f} s")
    assert second.code == 0 and second.out.startswith("step 2 "), second
    again = pod_of(cluster, team, "built")["spec"]["containers"][0]["image"]
    assert again != container["image"]
    (application,) = layers_of(gpuyard, again).keys() - layers.keys()
    sent = pushed(cluster, repository, since)
    # The other is the config, which lists the layers.
    assert application in sent and len(sent) == 2, sent

    since = len(cluster.log("registry"))
    third = gpuyard("run", *words, "--replace")
    assert third.code == 0 and third.out == second.out, third
    assert pushed(cluster, repository, since) == []
    assert pod_of(cluster, team, "built")["spec"]["containers"][0]["image"] == again


@pytest.fixture
def guarded(gpuyard: Gpuyard, tmp_path: Path) -> Iterator[str]:
    """The same images once more, at an address of the nodes' that asks for a password."""
    cluster, address = gpuyard.cluster, f"127.0.0.1:{free_port()}"
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    (tmp_path / "registry.yaml").write_text(
        "version: 0.1\nlog: {level: info}\n"
        f"storage: {{filesystem: {{rootdirectory: {cluster.folder}/registry}}}}\n"
        f'http: {{addr: "{address}"}}\nauth: {{htpasswd: {{realm: here, path: {tmp_path}/htpasswd}}}}\n'
    )
    log = tmp_path / "registry.log"
    log.touch()
    argv = ["docker-registry", "serve", str(tmp_path / "registry.yaml")]
    assert cluster.state.init is not None
    process = namespaces.start(cluster.state.init, argv, log)
    try:
        until(lambda: f"listening on {address}" in log.read_text(), "the guarded registry listens")
        yield address
    finally:
        process.signal(signal.SIGTERM)


def test_a_pull_secret_opens_a_private_registry_and_explain_names_what_is_missing(
    gpuyard: Gpuyard, image: str, guarded: str, team: str, folder: Path
) -> None:
    private = f"{guarded}/{image.partition('/')[2]}"
    words = (f"--image={private}", "--gpus=1", f"--namespace={team}")
    refused = gpuyard("run", *words, "--name=refused", "-d", "--", "true")
    assert refused.code == 0, refused
    said = ""

    def says_why() -> bool:
        nonlocal said
        said = gpuyard.ok("explain", "refused", f"--namespace={team}")
        return "(ImagePull)" in said

    until(says_why, "explain names the pull")
    assert "authorization failed: no basic auth credentials" in said
    assert "--image-pull-secret" in said

    gpuyard.cluster.kubectl(
        *("create", "secret", "docker-registry", "registry", f"-n={team}", f"--docker-server={guarded}"),
        *("--docker-username=me", "--docker-password=pass word"),
    )
    spec, repository = folder / "gpuyard.yaml", repository_of(team)
    spec.write_text(
        f"name: let-in\nrun: echo pulled\nresources: {{gpus: 1}}\nimage_pull_secrets: [registry]\n"
        f"image:\n  base: {image}\n  repository: {gpuyard.cluster.registry}/{repository}\n"
        f"  pull_repository: {guarded}/{repository}\n"
    )
    done = gpuyard("run", "-f", str(spec), f"--namespace={team}")
    assert (done.code, done.out) == (0, "pulled\n"), done
    # Nobody reaches the guarded name from here: what was checked is the image by the other one.
    assert "Warning" not in done.err
    pod = pod_of(gpuyard.cluster, team, "let-in")["spec"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["containers"][0]["image"].startswith(f"{guarded}/{repository}@sha256:")
