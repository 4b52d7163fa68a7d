"""Through kubeconfig contexts: kubectl against the yard, and gpuyard against an API over HTTPS."""

from __future__ import annotations

import json

import pytest
from ruamel.yaml import YAML

from .conftest import Yard


@pytest.mark.kubectl
def test_kubectl_sees_what_gpuyard_made(yard: Yard) -> None:
    assert yard.ok("kubeconfig") == f"{yard.paths.kubeconfig}\n"
    assert yard.paths.kubeconfig.stat().st_mode & 0o777 == 0o600
    yard.ok("run", "-n", "seen", "--gpus", "2", "--", "echo", "hello")
    (job,) = json.loads(yard.kubectl("get", "jobs", "-o", "json"))["items"]
    assert job["metadata"]["labels"]["gpuyard.io/run"] == "seen"
    assert job["status"]["succeeded"] == 1
    assert yard.kubectl("logs", "job/seen") == "hello\n"
    assert "Completed" in yard.kubectl("get", "pods", "-l", "gpuyard.io/run=seen")
    (node,) = json.loads(yard.kubectl("get", "nodes", "-o", "json"))["items"]
    assert node["metadata"]["labels"]["gpuyard.io/gpu-model"] == "H100"
    assert node["metadata"]["labels"]["gpuyard.io/simulated"] == "true"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"
    assert "nvidia.com/gpu" in yard.kubectl("describe", "node", node["metadata"]["name"])


@pytest.mark.kubectl
def test_gpuyard_sees_what_kubectl_removed(yard: Yard) -> None:
    yard.background("doomed", "--gpus", "8", "--", "sleep", "600")
    yard.kubectl("delete", "job", "doomed")
    assert yard.json("ps") == []
    assert yard.ok("run", "--gpus", "8", "--", "echo", "next") == "next\n"


def test_commands_through_a_context_over_https(yard: Yard) -> None:
    config = YAML(typ="safe").load(yard.paths.kubeconfig)
    assert config["clusters"][0]["cluster"]["server"].startswith("https://127.0.0.1:")
    context = config["current-context"]
    shell = {"KUBECONFIG": str(yard.paths.kubeconfig)}
    arguments = ("--context", context)
    for options, where in (
        ((), "namespace default"),
        (("--namespace", "team"), "namespace team"),
        (("-A",), "any"),
    ):
        # Where they were looked for, and what would run there: no script without an image.
        said = yard.call("ps", *options, *arguments, env=shell).err
        assert f"No runs yet in {where}" in said and "--image IMAGE" in said and context in said
    yard.ok("run", "-n", "local", "--", "echo", "hello")
    yard.background("alive", "--", "sleep", "600")
    found = json.loads(yard.ok("ps", "-o", "json", *arguments, env=shell))
    assert {run["name"] for run in found} == {"local", "alive"}
    assert yard.ok("logs", "local", *arguments, env=shell) == "hello\n"
    assert yard.call("logs", "-f", "local", *arguments, env=shell).out == "hello\n"
    assert json.loads(yard.ok("nodes", "-o", "json", *arguments, env=shell))[0]["gpus"] == 8
    assert "alive: running" in yard.ok("explain", "alive", *arguments, env=shell)
    yard.ok("stop", "alive", *arguments, env=shell)
    assert yard.state("alive")["state"] == "stopped"
    yard.ok("rm", "alive", *arguments, env=shell)
    assert [run["name"] for run in yard.json("ps")] == ["local"]
    # A process of this machine can't go to a cluster.
    said = yard.refused(2, "run", *arguments, "--", "true", env=shell)
    assert "image" in said and "--context yard" in said


def test_use_is_kept_until_it_is_taken_back(own_yard: Yard) -> None:
    own_yard.ok("run", "-n", "local", "--", "true")
    shell = {"KUBECONFIG": str(own_yard.paths.kubeconfig)}
    context = YAML(typ="safe").load(own_yard.paths.kubeconfig)["current-context"]
    server = own_yard.status()["api"]
    assert own_yard.ok("use") == "Commands go to this machine's yard.\n"
    assert own_yard.ok("use", context, env=shell) == f"Commands go to {context} ({server}).\n"
    assert own_yard.ok("use", env=shell) == f"Commands go to {context} ({server}).\n"
    assert "local" in own_yard.ok("ps", env=shell)
    own_yard.ok("down")
    # The context's server is away; the yard being stopped isn't what this is about.
    said = own_yard.refused(1, "ps", env=shell)
    assert server.removeprefix("https://") in said and "the yard is stopped" not in said
    assert "the yard is stopped" in own_yard.refused(1, "ps", "--context", "yard", env=shell)
    # It's chosen still when the kubeconfig has lost it, and every command says so.
    elsewhere = {"KUBECONFIG": str(own_yard.paths.data_dir / "none")}
    assert context in own_yard.refused(2, "use", env=elsewhere)
    own_yard.ok("use", "yard")
    assert "the yard is stopped" in own_yard.refused(1, "ps", env=shell)


def test_a_context_that_is_not_there(yard: Yard) -> None:
    shell = {"KUBECONFIG": str(yard.paths.kubeconfig)}
    said = yard.refused(2, "use", "elsewhere", env=shell)
    assert "elsewhere" in said and str(yard.paths.kubeconfig) in said
    assert yard.json("ps") == []
    said = yard.refused(2, "ps", "--context", "elsewhere", env={"KUBECONFIG": "/nowhere"})
    assert "/nowhere" in said


def test_a_token_that_is_wrong_is_refused(yard: Yard) -> None:
    text = yard.paths.kubeconfig.read_text()
    token = yard.paths.token.read_text().strip()
    context = YAML(typ="safe").load(text)["current-context"]
    file = yard.script("kubeconfig", text.replace(token, "x" * len(token)))
    said = yard.refused(1, "ps", "--context", context, env={"KUBECONFIG": str(file)})
    assert "Unauthorized" in said or "credentials" in said.lower() or "token" in said.lower()
    assert token not in said


def test_no_kubeconfig_before_the_first_start(stopped_yard: Yard) -> None:
    assert "gpuyard up" in stopped_yard.refused(1, "kubeconfig")
