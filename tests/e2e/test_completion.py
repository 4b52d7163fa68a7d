"""What the shell offers at TAB, asked as bash asks."""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from .conftest import Yard, processes


def _offered(yard: Yard, *words: str, env: Mapping[str, str] | None = None) -> list[str]:
    """What bash would offer for the last word."""
    asked = {
        "_GPUYARD_COMPLETE": "bash_complete",
        "COMP_WORDS": shlex.join(["gpuyard", *words[:-1]]) + f" {words[-1]}",
        "COMP_CWORD": str(len(words)),
    }
    # Click looks at the variables alone.
    done = yard.call("ps", env={**asked, **(env or {})})
    assert done.err == ""
    return [line.removeprefix("plain,") for line in done.out.split()]


def _kubeconfig(file: Path, server: str = "http://127.0.0.1:1") -> dict[str, str]:
    """Of two contexts; the environment that names it."""
    contexts = [
        {"name": name, "context": {"cluster": "c", "namespace": "team"}}
        for name in ("gpu-b", "gpu-a", "other")
    ]
    clusters = [{"name": "c", "cluster": {"server": server}}]
    file.write_text(json.dumps({"contexts": contexts, "clusters": clusters}))
    return {"KUBECONFIG": str(file)}


@pytest.mark.parametrize(
    "words", [("ps", "--context"), ("logs", "--context"), ("status", "--context"), ("use",)]
)
def test_contexts_and_the_yard(yard: Yard, tmp_path: Path, words: tuple[str, ...]) -> None:
    env = _kubeconfig(tmp_path / "config")
    assert _offered(yard, *words, "", env=env) == ["yard", "gpu-a", "gpu-b", "other"]
    assert _offered(yard, *words, "gpu-", env=env) == ["gpu-a", "gpu-b"]


def test_files_for_a_run(yard: Yard) -> None:
    # The shell itself looks for what click calls a file or a dir.
    assert _offered(yard, "run", "tr") == ["file,tr"]
    assert _offered(yard, "run", "--gpus", "2", "train.py", "--", "--config", "c") == ["file,c"]
    assert _offered(yard, "run", "--workdir", "s") == ["dir,s"]
    assert _offered(yard, "run", "--python", "./v") == ["file,./v"]


def test_scripts_of_another_workdir(yard: Yard) -> None:
    (yard.work / "jobs/sub").mkdir(parents=True)
    for name in ("train.py", "test.py", "sub/trial.py"):
        (yard.work / "jobs" / name).write_text("")
    assert _offered(yard, "run", "--workdir", "jobs", "t") == ["test.py", "train.py"]
    assert _offered(yard, "run", "--workdir", "jobs", "s") == ["sub/"]
    assert _offered(yard, "run", "--workdir", "jobs", "sub/") == ["sub/trial.py"]
    assert _offered(yard, "run", "--workdir", "nowhere", "t") == []


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_only_clusters_where_there_is_no_yard(yard: Yard, tmp_path: Path, command: str) -> None:
    env = _kubeconfig(tmp_path / "config")
    assert _offered(yard, command, "--context", "", env=env) == ["gpu-a", "gpu-b", "other"]


def test_a_damaged_kubeconfig_is_no_word(yard: Yard, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("{[")
    assert _offered(yard, "use", "", env={"KUBECONFIG": str(file)}) == ["yard"]


def test_names_of_runs(yard: Yard) -> None:
    yard.ok("run", "-n", "train-a", "--", "true")
    yard.ok("run", "-n", "train-b", "--", "true")
    yard.ok("run", "-n", "serve", "--", "true")
    for command in ("logs", "show", "explain", "stop", "rm"):
        assert sorted(_offered(yard, command, "")) == ["serve", "train-a", "train-b"]
        assert sorted(_offered(yard, command, "train")) == ["train-a", "train-b"]
    assert _offered(yard, "rm", "train-a", "train") == ["train-b"]
    assert _offered(yard, "logs", "--namespace", "elsewhere", "") == []


def test_a_stopped_yard_offers_none_and_stays_stopped(stopped_yard: Yard) -> None:
    assert _offered(stopped_yard, "logs", "") == []
    assert not stopped_yard.paths.api_socket.exists()


def test_a_server_that_is_not_there_offers_none(yard: Yard, tmp_path: Path) -> None:
    env = _kubeconfig(tmp_path / "config")
    assert _offered(yard, "logs", "--context", "gpu-a", "", env=env) == []


def test_a_server_that_never_answers_is_not_waited_for(yard: Yard, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = _kubeconfig(tmp_path / "config", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert _offered(yard, "logs", "--context", "gpu-a", "", env=env) == []


def test_a_credential_plugin_that_hangs_is_not_waited_for(yard: Yard, tmp_path: Path) -> None:
    env = _kubeconfig(tmp_path / "config")
    config = json.loads((tmp_path / "config").read_text())
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sleep", "args": ["1000"]}
    config["users"] = [{"name": "u", "user": {"exec": plugin}}]
    config["contexts"][0]["context"]["user"] = "u"
    (tmp_path / "config").write_text(json.dumps(config))
    assert _offered(yard, "logs", "--context", "gpu-b", "", env=env) == []
    assert not processes([f"KUBECONFIG={env['KUBECONFIG']}".encode()])
