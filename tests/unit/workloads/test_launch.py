from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpuyard.kube.names import is_label
from gpuyard.kube.references import expand_references
from gpuyard.workloads.command import resolve_command
from gpuyard.workloads.launch import LAUNCHER
from gpuyard.workloads.names import MAX_LENGTH
from gpuyard.workloads.render import render
from gpuyard.workloads.resolved_run import ResolvedRun, Script
from gpuyard.workloads.spec.gpu_request import GpuRequest, parse_gpus
from gpuyard.workloads.spec.run_spec import RunSpec

TEXT = "the launcher"
RUN = "/etc/gpuyard/run"


def resolved(*run: str, line: str = "", gpus: str = "", name: str = "train", **more: Any) -> ResolvedRun:
    decided = {key: more.pop(key) for key in ("script", "entrypoint", "launcher") if key in more}
    request = parse_gpus(gpus) if gpus else GpuRequest()
    spec = RunSpec(run=line or run, image="python:3.12", gpus=request, **more)
    texts = {"launcher.py": decided.pop("launcher", TEXT), "launcher_gang.py": "the gang's"}
    return ResolvedRun(spec, name, "ml", image="python:3.12", launcher=texts, **decided)


def container_of(job: dict[str, Any]) -> Any:
    return job["spec"]["template"]["spec"]["containers"][0]


def command_of(job: dict[str, Any]) -> list[str]:
    return [expand_references(word, {}) for word in container_of(job)["command"]]


def test_a_script_travels_with_the_launcher() -> None:
    run = resolved("train.py", "--epochs", "3", script=Script("train.py", "print(1)\n"))
    config_map, sent = render(run)
    name = config_map["metadata"]["name"]
    assert re.fullmatch(r"train-[0-9a-f]{10}", name)
    assert config_map == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "ml", "labels": {"gpuyard.io/run": "train"}},
        "immutable": True,
        "data": {"launcher.py": TEXT, "script": "print(1)\n"},
    }
    launched = ["python3", LAUNCHER, "--pythonpath", ".", "--"]
    assert command_of(sent) == [*launched, "python3", f"{RUN}/train.py", "--epochs", "3"]
    assert container_of(sent)["volumeMounts"][-1] == {
        "name": "gpuyard", "mountPath": "/etc/gpuyard", "readOnly": True,
    }  # fmt: skip
    assert sent["spec"]["template"]["spec"]["volumes"][-1] == {
        "name": "gpuyard",
        "configMap": {
            "name": name,
            "items": [
                {"key": "launcher.py", "path": "launcher.py"},
                {"key": "script", "path": "run/train.py"},
            ],
        },
    }


def test_the_name_follows_the_content_and_the_run() -> None:
    def name(text: str, launcher: str = TEXT, run: str = "train") -> str:
        script = Script("train.py", text)
        config_map, _ = render(resolved("train.py", name=run, script=script, launcher=launcher))
        return str(config_map["metadata"]["name"])

    assert name("a") == name("a")
    longest = "n" * MAX_LENGTH
    others = [name("b"), name("a", "newer"), name("a", run="other"), name("a", run=longest)]
    assert len({name("a"), *others}) == 5
    assert is_label(others[-1])


@pytest.mark.parametrize(
    ("path", "file", "folders"),
    [
        ("src/a b.py", "a b.py", "src:."),
        ("./train.py", "train.py", "."),
        ("/home/ada/train.py", "train.py", "."),
        ("../train.py", "train.py", "."),
        ("a:b/train.py", "train.py", "."),
        ("$(HOME).py", "$(HOME).py", "."),
    ],
)
def test_where_it_lies_and_finds_its_modules(path: str, file: str, folders: str) -> None:
    config_map, job = render(resolved(path, "x", python="/venv/bin/python", script=Script(path, "")))
    python = "/venv/bin/python"
    assert command_of(job) == [
        python, LAUNCHER, "--pythonpath", folders, "--", python, f"{RUN}/{file}", "x",
    ]  # fmt: skip
    items = job["spec"]["template"]["spec"]["volumes"][-1]["configMap"]["items"]
    assert items[1] == {"key": "script", "path": f"run/{file}"}
    assert items[1]["key"] in config_map["data"]


def test_a_script_named_as_the_launcher_lies_elsewhere() -> None:
    config_map, job = render(resolved("launcher.py", script=Script("launcher.py", "theirs")))
    assert config_map["data"] == {"launcher.py": TEXT, "script": "theirs"}
    assert command_of(job)[-1] == f"{RUN}/launcher.py" != LAUNCHER


@pytest.mark.parametrize(
    "run", [("python", "train.py"), ("python3.11", "-m", "pkg"), ("/opt/venv/bin/python3", "-u", "x.py")]
)
def test_a_python_checks_the_gpus_before_it_runs(run: tuple[str, ...]) -> None:
    config_map, job = render(resolved(*run, gpus="2"))
    assert config_map["data"] == {"launcher.py": TEXT}
    assert command_of(job) == [run[0], LAUNCHER, "--", *run]


def test_a_script_of_the_image_s_own_is_checked_too() -> None:
    _, job = render(resolved("train.py", gpus="2"))
    assert command_of(job) == ["python3", LAUNCHER, "--", "python3", "train.py"]


@pytest.mark.parametrize("entrypoint", [(), ("python", "launcher.py")])
@pytest.mark.parametrize("run", [("torchrun", "train.py"), ("python", "train.py"), ("/server.shop",)])
def test_without_gpus_script_and_shell_nothing_travels(
    run: tuple[str, ...], entrypoint: tuple[str, ...]
) -> None:
    [job] = render(resolved(*run, entrypoint=entrypoint))
    assert command_of(job) == list(run)


@pytest.mark.parametrize(
    ("line", "more", "shell"),
    [
        ("python ck.py | tee log", {}, "/bin/sh"),
        ("python ck.py", {"shell": "bash"}, "bash"),
        ("python ck.py", {"shell": "/busybox/sh -e"}, "/busybox/sh"),
        ("python ck.py", {"shell": "fish"}, "/bin/sh"),
        ("bash train.sh", {}, "bash"),
        ("./train.sh --epochs 3", {}, "/bin/sh"),
        ("python ck.py | tee log", {"env": {"GPUYARD_ALLOW_CPU": "1"}, "gpus": "1"}, "/bin/sh"),
    ],
)
def test_a_shell_is_started_by_the_launcher_which_passes_signals_on(
    line: str, more: dict[str, Any], shell: str
) -> None:
    config_map, job = render(resolved(line=line, **more))
    assert config_map["data"] == {"launcher.py": TEXT}
    own = resolve_command(line, None, more.get("shell"))
    first, *words = command_of(job)
    assert (first, words[0], tuple(words[3:])) == (shell, "-c", own)


def test_a_shell_in_an_image_with_the_launcher_needs_no_other() -> None:
    entrypoint = ("/opt/gpuyard/venv/bin/python", "/opt/gpuyard/launcher.py", "--")
    [job] = render(resolved("bash", "train.sh", entrypoint=entrypoint))
    assert command_of(job) == [*entrypoint, "bash", "train.sh"]


def test_an_image_s_own_launcher_is_enough() -> None:
    entrypoint = ("/opt/gpuyard/venv/bin/python", "/opt/gpuyard/launcher.py", "--")
    [job] = render(resolved("torchrun", "x.py", gpus="1", entrypoint=entrypoint))
    assert command_of(job) == [*entrypoint, "torchrun", "x.py"]
    # It goes first once, also where the command names it.
    [job] = render(resolved(*entrypoint, "torchrun", "x.py", gpus="1", entrypoint=entrypoint))
    assert command_of(job) == [*entrypoint, "torchrun", "x.py"]


def test_a_wrapper_of_the_image_goes_before_every_command() -> None:
    """It sets what the image's libraries are found by, with GPUs or without."""
    entrypoint = (
        "/opt/nvidia/nvidia_entrypoint.sh",
        "/opt/gpuyard/venv/bin/python",
        "/opt/gpuyard/launcher.py",
    )
    for gpus in ("1", ""):
        [job] = render(resolved("trtexec", "x", gpus=gpus, entrypoint=entrypoint))
        assert command_of(job) == [*entrypoint, "trtexec", "x"]


def run_by_shell(
    folder: Path, *run: str, python: bool, gpus: str = "1", **more: Any
) -> subprocess.CompletedProcess[str]:
    """Runs the command as it would be, with a python3 that prints its arguments, or without one."""
    *_, job = render(resolved(*run, gpus=gpus, **more))
    (folder / "bin").mkdir()
    if python:
        (folder / "bin/python3").write_text('#!/bin/sh\nprintf "[%s]" "$@"')
        (folder / "bin/python3").chmod(0o755)
    (folder / "bin/tool").write_text('#!/bin/sh\nprintf "(%s)" "$@"; exit 7')
    (folder / "bin/tool").chmod(0o755)
    return subprocess.run(
        command_of(job),
        env={"PATH": str(folder / "bin")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


ODD = ("a  b", "$HOME", "'", '"$(id)', "*", "", "--", "-c")


def test_other_commands_are_checked_by_the_image_s_python3(tmp_path: Path) -> None:
    done = run_by_shell(tmp_path, "tool", *ODD, python=True)
    assert done.stdout == "".join(f"[{word}]" for word in (LAUNCHER, "--", "tool", *ODD))


def test_an_image_without_python3_runs_all_the_same_and_says_so(tmp_path: Path) -> None:
    done = run_by_shell(tmp_path, "tool", *ODD, python=False)
    assert (done.returncode, done.stdout) == (7, "".join(f"({word})" for word in ODD))
    assert done.stderr == "gpuyard: no python3 in this image: its GPUs are not checked\n"


def test_a_pod_of_several_without_python3_says_that_it_waits_for_no_other(tmp_path: Path) -> None:
    done = run_by_shell(tmp_path, "tool", python=False, gpus="", nodes=2)
    assert done.stderr == "gpuyard: no python3 in this image: it waits for no other pod of the run\n"


def test_a_shell_without_gpus_in_an_image_without_python3_is_just_started(tmp_path: Path) -> None:
    done = run_by_shell(tmp_path, "/bin/sh", "-c", "tool a; exit 3", python=False, gpus="")
    assert (done.returncode, done.stdout, done.stderr) == (3, "(a)", "")


def test_a_run_that_may_go_on_without_gpus_needs_no_shell() -> None:
    [job] = render(resolved("/server", gpus="1", env={"GPUYARD_ALLOW_CPU": "1"}))
    assert command_of(job) == ["/server"]
