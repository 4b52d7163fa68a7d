"""`gpuyard doctor` on a real Kubernetes: without a fault, with few rights, quotas, or no way to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from gpuyard.gpus.cdi import SPEC_FILE
from tests.cluster.gpuyard_on import Gpuyard
from tests.cluster.harness.namespaces import ClusterError
from tests.cluster.harness.objects import wait_for_gpus
from tests.cluster.installed.conftest import GPUS
from tests.cluster.installed.test_bad_input import grant
from tests.cluster.installed.users import account, as_user, certificate
from tests.waiting import until


def report(gpuyard: Gpuyard, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and document."""
    done = gpuyard("doctor", *words, "-o", "json")
    raw: dict[str, Any] = json.loads(done.out)
    assert done.err == ""
    return done.code, raw


def checks(raw: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {check["name"]: check for check in raw["checks"]}


def test_a_cluster_without_a_fault(gpuyard: Gpuyard, image: str, team: str) -> None:
    code, raw = report(gpuyard, f"--namespace={team}", f"--image={image}")
    assert (code, raw["target"], raw["first_broken"]) == (0, "cluster", None), raw
    found = checks(raw)
    for name in (
        "kubeconfig",
        "api",
        "credentials",
        "namespace",
        "permissions",
        "install",
        "agents",
        "plugins",
    ):
        assert found[name]["outcome"] == "ok", found[name]
    assert found["api"]["message"] == f"Kubernetes {gpuyard.cluster.minor}"
    assert found["credentials"]["message"] == "the API knows you as admin"
    nodes = dict.fromkeys(gpuyard.cluster.nodes, f"{GPUS} × H100 (simulated)")
    assert {n["name"]: n["message"] for n in found["gpus"]["nodes"]} == nodes
    assert {n["message"] for n in found["driver"]["nodes"]} == {"580.95.05 (simulated)"}
    assert found["toolkit"]["outcome"] == "skipped"
    assert found["cdi"]["message"].startswith("containerd 2.")
    assert found["registry"]["message"] == f"{image} can be read from here"
    assert found["quota"]["message"] == f"{team} has none"


def test_no_default_storage_class(gpuyard: Gpuyard) -> None:
    """The cluster has no storage driver."""
    listed = json.loads(gpuyard.cluster.kubectl("get", "storageclass", "-o=json"))["items"]
    annotation = "storageclass.kubernetes.io/is-default-class"
    assert not any((c["metadata"].get("annotations") or {}).get(annotation) == "true" for c in listed)
    storage = checks(report(gpuyard)[1])["storage"]
    assert storage["outcome"] == "warning" and "no default StorageClass" in storage["message"]


def test_for_people(gpuyard: Gpuyard, team: str) -> None:
    said = gpuyard.ok("doctor", f"--namespace={team}")
    assert f"ok       namespace    {team}\n" in said
    assert said.splitlines()[-1].startswith("Nothing is broken")
    done = gpuyard("doctor", "--namespace=nowhere")
    assert (done.code, done.out.splitlines()[-1]) == (
        1,
        "The first broken link: namespace: there is no namespace nowhere",
    )


LOGS = ["pods", "--subresource=log"]


def may_get(gpuyard: Gpuyard, user: str, *what: str) -> bool:
    """Whether the user may get it in a namespace that isn't theirs."""
    try:
        gpuyard.cluster.kubectl("auth", "can-i", f"--as={user}", "-n=kube-system", "get", *what)
    except ClusterError:
        return False
    return True


def test_few_rights(gpuyard: Gpuyard, team: str, tmp_path: Path) -> None:
    bob = account(gpuyard, tmp_path, team)
    code, raw = report(bob, f"--namespace={team}")
    assert (code, raw["first_broken"]) == (1, "permissions"), raw
    found = checks(raw)
    who = f"system:serviceaccount:{team}:bob"
    assert found["credentials"]["message"] == f"the API knows you as {who}"
    assert found["permissions"]["message"].startswith(
        f"{who} may not get,list,watch,create,patch,delete jobs.batch;"
    )
    assert found["gpus"]["outcome"] == "skipped" and found["gpus"]["message"] == f"{who} may not list nodes"
    assert "daemonsets" in found["install"]["message"] and found["install"]["remedy"] is None
    here, everywhere = found["permissions"]["remedy"].splitlines()
    grant(gpuyard, here)
    code, raw = report(bob, f"--namespace={team}")
    assert (code, checks(raw)["permissions"]["outcome"]) == (0, "warning"), raw
    grant(gpuyard, everywhere)
    try:
        code, raw = report(bob, f"--namespace={team}")
        found = checks(raw)
        assert found["permissions"]["outcome"] == found["gpus"]["outcome"] == "ok", raw
        assert found["install"]["message"].startswith("its agents are in gpuyard-system"), raw
        # Whoever counts what others hold reads nothing that they print or keep.
        assert may_get(gpuyard, who, "pods")
        assert not any(may_get(gpuyard, who, *what) for what in (["configmaps"], ["secrets"], LOGS))
    finally:
        gpuyard.cluster.kubectl("delete", "clusterrolebinding", f"gpuyard-capacity-{team}-bob")


def test_operators_see_all_of_an_install(gpuyard: Gpuyard, team: str, tmp_path: Path) -> None:
    bob, name = account(gpuyard, tmp_path, team), f"operator-{team}"
    gpuyard.cluster.kubectl(
        "create", "clusterrolebinding", name, "--clusterrole=gpuyard-operator", f"--serviceaccount={team}:bob"
    )
    try:
        assert bob.json("status")["missing"] == []
        code, raw = report(bob, f"--namespace={team}")
        assert code == 0, raw
        outcomes = {
            check["outcome"]
            for check in raw["checks"]
            if check["name"] not in ("toolkit", "tenants", "storage")
        }
        assert outcomes == {"ok"}, raw
    finally:
        gpuyard.cluster.kubectl("delete", "clusterrolebinding", name)


def test_quotas(gpuyard: Gpuyard, team: str) -> None:
    cluster = gpuyard.cluster

    def quota(name: str, hard: str, wanted: str) -> Mapping[str, Any]:
        cluster.kubectl("create", "quota", name, f"--hard={hard}", f"-n={team}")

        def seen() -> Mapping[str, Any] | None:
            found = checks(report(gpuyard, f"--namespace={team}")[1])["quota"]
            return found if wanted in found["message"] else None

        found = until(seen, f"doctor says {wanted}")
        assert found is not None
        cluster.kubectl("delete", "quota", name, f"-n={team}")
        return found

    assert quota("gpus", "requests.nvidia.com/gpu=4", "gpus leaves 4 of 4 GPUs")["outcome"] == "ok"
    assert quota("none", "requests.nvidia.com/gpu=0", "none is used up")["outcome"] == "warning"
    assert quota("odd", "limits.nvidia.com/gpu=4", "which counts nothing")["outcome"] == "warning"
    found = quota("strict", "requests.cpu=4,limits.memory=8Gi", "wants limits.memory, requests.cpu")
    assert "--memory and --cpus" in found["remedy"]


def test_an_image_that_is_not_there(gpuyard: Gpuyard) -> None:
    missing = f"{gpuyard.cluster.registry}/nothing/here:1"
    code, raw = report(gpuyard, f"--image={missing}")
    assert (code, raw["first_broken"]) == (1, "registry")
    assert checks(raw)["registry"]["message"] == f"there is no image {missing}"
    code, raw = report(gpuyard, f"--registry={gpuyard.cluster.registry}")
    found = checks(raw)["registry"]
    assert (found["outcome"], found["message"]) == ("ok", f"{gpuyard.cluster.registry} answers")


def test_expired_credentials(gpuyard: Gpuyard, tmp_path: Path) -> None:
    bob, file = as_user(gpuyard, tmp_path, certificate(gpuyard.cluster, ends=-timedelta(hours=1)))
    code, raw = report(bob)
    assert (code, raw["first_broken"]) == (1, "credentials")
    found = checks(raw)
    assert f"user 'bob' of {file} expired at" in found["credentials"]["message"]
    quota = found["quota"]
    assert (quota["outcome"], quota["message"]) == ("skipped", "credentials comes first")


def test_no_way_there(gpuyard: Gpuyard, tmp_path: Path) -> None:
    lost, _ = as_user(gpuyard, tmp_path, cluster={"server": "https://127.0.0.1:1"})
    code, raw = report(lost, f"--registry={gpuyard.cluster.registry}")
    assert (code, raw["first_broken"]) == (1, "api")
    assert checks(raw)["registry"]["outcome"] == "ok"
    done = gpuyard.run("doctor", "--context=elsewhere")
    assert done.code == 1 and "The first broken link: kubeconfig: no context 'elsewhere'" in done.out


def cdi_check(gpuyard: Gpuyard) -> tuple[str, str, str]:
    """Outcome, message and remedy."""
    check = checks(report(gpuyard)[1])["cdi"]
    return check["outcome"], check["message"], check["remedy"] or ""


def test_a_second_file_with_the_agents_cdi_devices(gpuyard: Gpuyard, image: str, team: str) -> None:
    node = gpuyard.cluster.nodes["node-a"]
    words = ("run", f"--namespace={team}", f"--image={image}", "--gpus=1", "-d", "--name=held")
    selector = "--node-selector=kubernetes.io/hostname=node-a"

    def outcome() -> str:
        return cdi_check(gpuyard)[0]

    other = node.cdi_dir / "copy.json"
    other.write_bytes((node.cdi_dir / SPEC_FILE).read_bytes())
    try:
        until(outcome, "the duplicate is seen", lambda found: found == "broken")
        _, message, remedy = cdi_check(gpuyard)
        assert message.startswith("node-a: /var/run/cdi/copy.json has CDI devices of the same names"), message
        assert "remove /var/run/cdi/copy.json" in remedy
        gpuyard.ok(*words, selector, "--", "true")

        def blocked() -> dict[str, Any]:
            return gpuyard.json("explain", "held", f"--namespace={team}")["blocked"] or {}

        said = until(blocked, "it is explained", lambda found: found.get("cause") == "no_cdi_device")
        assert "/var/run/cdi/copy.json has CDI devices of the same names" in said["headline"]
    finally:
        other.unlink()
    # The container that waited starts by itself.
    gpuyard.ok("wait", "held", f"--namespace={team}")
    until(outcome, "all is well again", lambda found: found == "ok")


def test_nvidias_own_cdi_file_is_in_nobodys_way(gpuyard: Gpuyard, image: str, team: str) -> None:
    """As `nvidia-ctk cdi generate` and `nvidia-cdi-refresh` write it: other kind, same names."""
    written = []
    for node in gpuyard.cluster.nodes.values():
        text = (node.cdi_dir / SPEC_FILE).read_text().replace("gpuyard.io/gpu", "nvidia.com/gpu")
        written.append(node.cdi_dir / "nvidia.yaml")
        written[-1].write_text(text)
    try:
        gpuyard.ok("run", f"--namespace={team}", f"--image={image}", "--gpus=1", "--", "true")
        assert cdi_check(gpuyard)[0] == "ok"
    finally:
        for path in written:
            path.unlink()


def test_a_cdi_file_that_something_changes(gpuyard: Gpuyard, image: str, team: str) -> None:
    node = gpuyard.cluster.nodes["node-b"]
    path, whole = node.cdi_dir / SPEC_FILE, (node.cdi_dir / SPEC_FILE).read_text()
    for harm, what in ((path.unlink, "deleted"), (lambda: path.write_text("{}"), "changed")):
        harm()
        until(lambda: path.exists() and path.read_text() == whole, "the agent has written it again")

        def told(what: str = what) -> bool:
            outcome, message, _ = cdi_check(gpuyard)
            return outcome == "warning" and f"/var/run/cdi/{SPEC_FILE} was {what} at " in message

        until(told, f"doctor says that it was {what}")
    selector = "--node-selector=kubernetes.io/hostname=node-b"
    gpuyard.ok("run", f"--namespace={team}", f"--image={image}", "--gpus=1", selector, "--", "true")


def test_a_cdi_folder_that_is_made_anew(gpuyard: Gpuyard, image: str, team: str) -> None:
    """The agent's mount is of the old one: its container starts again, and sees the new."""
    folder = gpuyard.cluster.nodes["node-b"].cdi_dir
    whole = (folder / SPEC_FILE).read_text()

    def removed() -> bool:
        # The agent may write it again in the meantime.
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    until(removed, "the folder is gone")
    folder.mkdir()
    until(lambda: (folder / SPEC_FILE).exists(), "the agent has written it again")
    assert (folder / SPEC_FILE).read_text() == whole
    wait_for_gpus(gpuyard.cluster, "node-b", GPUS, GPUS)
    selector = "--node-selector=kubernetes.io/hostname=node-b"
    gpuyard.ok("run", f"--namespace={team}", f"--image={image}", "--gpus=1", selector, "--", "true")
