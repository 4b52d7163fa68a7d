"""Specs against the manifests that they become.

The golden files are written anew with GOLDEN=write in the environment; read the difference before committing.
"""

from __future__ import annotations

import dataclasses
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard.kube.quantity import parse_quantity, to_int
from gpuyard.kube.references import expand_references
from gpuyard.kube.wellknown import LABEL_GPU_MODEL, LABEL_RUN
from gpuyard.workloads.names import MAX_LENGTH
from gpuyard.workloads.pod_failure_policy import MAX_REFUSALS
from gpuyard.workloads.render import render
from gpuyard.workloads.resolved_run import HostContext, ResolvedRun
from gpuyard.workloads.spec.gpu_request import GpuRequest, parse_gpus
from gpuyard.workloads.spec.run_spec import RunSpec, load_spec
from gpuyard.workloads.yaml_text import to_yaml

GOLDEN = Path(__file__).parent / "golden"
HOST = HostContext(
    python="/home/ada/venv/bin/python3",
    workdir="/home/ada/code",
    path="/home/ada/venv/bin:/usr/local/bin:/usr/bin:/bin",
    home="/home/ada",
    user="ada",
    lang="C.UTF-8",
    virtual_env="/home/ada/venv",
)


def resolved(spec: RunSpec, name: str = "a-run", host: HostContext = HOST) -> ResolvedRun:
    launcher = {
        "launcher.py": "the launcher",
        "launcher_gang.py": "what several pods need",
        "launcher_grace.py": "what ends them",
        "launcher_sweep.py": "what tasks need",
    }
    place: dict[str, Any] = {"image": spec.image, "launcher": launcher} if spec.image else {"host": host}
    return ResolvedRun(spec, name, "default", **place)


def pod_of(spec: RunSpec, host: HostContext = HOST) -> dict[str, Any]:
    job = render(resolved(spec, host=host))[-1]
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


def env_of(pod: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.in.yaml")), ids=lambda path: path.name)
def test_golden(path: Path) -> None:
    spec = load_spec(path.read_text(), path.name, (), {})
    text = to_yaml(render(resolved(spec, spec.name or "train-x7k2q")))
    expected = path.with_name(path.name.replace(".in.", ".out."))
    if os.environ.get("GOLDEN") == "write":
        expected.write_text(text)
    assert text == expected.read_text()


def test_every_golden_file_has_its_input() -> None:
    outputs = {path.name.replace(".out.", ".in.") for path in GOLDEN.glob("*.out.yaml")}
    assert outputs == {path.name for path in GOLDEN.glob("*.in.yaml")}


def test_the_interpreter_s_folder_comes_first_in_path_and_once() -> None:
    assert env_of(pod_of(RunSpec(run="a")))["PATH"] == "/home/ada/venv/bin:/usr/local/bin:/usr/bin:/bin"
    other = HostContext(python="/usr/bin/python3", workdir="/", path="/x:/usr/bin::/y", home="/h", user="u")
    env = env_of(pod_of(RunSpec(run="a"), other))
    assert env == {"PYTHONUNBUFFERED": "1", "PATH": "/usr/bin:/x:/y", "HOME": "/h", "USER": "u"}


def test_the_spec_s_env_wins_over_the_shell_s() -> None:
    env = env_of(pod_of(RunSpec(run="a", env={"HOME": "/elsewhere", "LANG": ""})))
    assert (env["HOME"], env["LANG"]) == ("/elsewhere", "")


@pytest.mark.parametrize(
    ("memory", "shm", "limit"),
    [(None, None, None), ("16Gi", None, "8Gi"), ("1Mi", None, "1Mi"), ("16Gi", "1Gi", "1Gi"),
     (None, "3G", "3G"), ("1.5Gi", None, "768Mi"), ("1e9", None, "476Mi")],
)  # fmt: skip
def test_shared_memory(memory: str | None, shm: str | None, limit: str | None) -> None:
    pod = pod_of(RunSpec(run="a", memory=memory, shm=shm))
    [volume] = [volume for volume in pod["volumes"] if volume["name"] == "shm"]
    assert volume["emptyDir"].get("sizeLimit") == limit
    assert volume["emptyDir"]["medium"] == "Memory"
    assert {"name": "shm", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]


def test_gpu_models_are_asked_for_by_our_own_label() -> None:
    pod = pod_of(RunSpec(run="a", gpus=parse_gpus("H100:2")))
    [term] = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    expected = {"key": LABEL_GPU_MODEL, "operator": "In", "values": ["H100", "H100-PCIe", "H100-NVL"]}
    assert term == {"matchExpressions": [expected]}
    assert "affinity" not in pod_of(RunSpec(run="a", gpus=GpuRequest(2)))


@pytest.mark.parametrize("image", [None, "i"])
def test_a_timeout_is_the_pod_s_deadline(image: str | None) -> None:
    """The Job's own would delete the pod with its output, and count the time in the queue."""
    run = resolved(RunSpec(run="a", image=image, timeout=timedelta(hours=2)))
    job = render(run)[-1]
    assert job["spec"]["template"]["spec"]["activeDeadlineSeconds"] == 7200
    assert "activeDeadlineSeconds" not in job["spec"]
    assert "activeDeadlineSeconds" not in pod_of(RunSpec(run="a", image=image))


def test_gpus_are_hidden_only_where_none_were_asked_for() -> None:
    assert env_of(pod_of(RunSpec(run="a", image="i")))["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "NVIDIA_VISIBLE_DEVICES" not in env_of(pod_of(RunSpec(run="a", image="i", gpus=GpuRequest(1))))


def test_the_run_is_kept_off_nodes_in_each_of_its_terms() -> None:
    zone = {"key": "zone", "operator": "In", "values": ["x"]}
    field = {"key": "metadata.name", "operator": "In", "values": ["a"]}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    affinity = {
        "nodeAffinity": {
            required: {"nodeSelectorTerms": [{"matchExpressions": [zone]}, {"matchFields": [field]}]}
        }
    }
    run = resolved(RunSpec(run="a", image="i", gpus=parse_gpus("T4"), affinity=affinity))
    clause = {"key": "arch", "operator": "NotIn", "values": ["arm64"]}
    job = render(dataclasses.replace(run, excluded_nodes=clause))[-1]
    node_affinity = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    model = {"key": LABEL_GPU_MODEL, "operator": "In", "values": ["T4"]}
    assert node_affinity[required]["nodeSelectorTerms"] == [
        {"matchExpressions": [zone, model, clause]},
        {"matchFields": [field], "matchExpressions": [model, clause]},
    ]


def test_an_image_passes_pod_security_restricted() -> None:
    pod = pod_of(RunSpec(run="a", image="i"))
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all("emptyDir" in volume for volume in pod["volumes"])
    assert "runtimeClassName" not in pod


def test_a_host_process_needs_its_host() -> None:
    with pytest.raises(ValueError, match="context"):
        ResolvedRun(RunSpec(run="a"), "a", "default")


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
SPECS = st.builds(
    RunSpec,
    run=st.lists(TEXT.filter(bool), min_size=1, max_size=3).map(tuple),
    gpus=st.sampled_from(["0", "2", "H100:2", "A100"]).map(parse_gpus),
    cpus=st.none() | st.sampled_from(["4", "500m"]),
    memory=st.none() | st.integers(2**20, 2**45).map(str),
    env=st.dictionaries(st.from_regex(r"[A-Z]{1,5}", fullmatch=True), TEXT, max_size=3),
    image=st.none() | st.just("image:1"),
    retries=st.integers(0, 9),
    affinity=st.none() | st.just({"podAffinity": {}}),
)
NAMES = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,50}[a-z0-9])?", fullmatch=True)


@given(SPECS, NAMES)
def test_rendering_is_deterministic_and_sound(spec: RunSpec, name: str) -> None:
    run = resolved(spec, name)
    *_, job = manifests = render(run)
    assert manifests == render(run)
    assert len(name) <= MAX_LENGTH
    template = job["spec"]["template"]
    assert job["metadata"]["labels"] == template["metadata"]["labels"] == {LABEL_RUN: name}
    assert job["metadata"]["labels"] is not template["metadata"]["labels"]
    assert job["spec"]["backoffLimit"] == (spec.retries or MAX_REFUSALS)
    assert template["spec"]["restartPolicy"] == "Never"
    [container] = template["spec"]["containers"]
    resources = container.get("resources", {"requests": {}, "limits": {}})
    assert resources["requests"] == resources["limits"]
    assert to_int(resources["limits"].get("nvidia.com/gpu", 0)) == spec.gpus.count
    for volume in template["spec"]["volumes"]:
        if "configMap" in volume:
            [config_map] = manifests[:-1]
            assert volume["configMap"]["name"] == config_map["metadata"]["name"]
            continue
        assert parse_quantity(volume["emptyDir"].get("sizeLimit", "1")) > 0
        assert re.fullmatch(r"[a-z]+", volume["name"])
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in template["spec"]["volumes"]}


@given(SPECS)
def test_the_process_gets_env_and_words_as_they_were_written(spec: RunSpec) -> None:
    pod = pod_of(spec)
    env = env_of(pod)
    for name, value in spec.env.items():
        assert expand_references(env[name], env) == value
    words = [expand_references(word, env) for word in pod["containers"][0]["command"]]
    assert words[-len(spec.run) + 1 :] == list(spec.run[1:]) or len(spec.run) == 1


@pytest.mark.parametrize(("env", "noted"), [({}, "/lib"), ({"PYTHONPATH": "/mine"}, None)])
def test_a_pythonpath_that_is_not_passed_on_is_noted(env: dict[str, str], noted: str | None) -> None:
    host = dataclasses.replace(HOST, pythonpath="/lib")
    (job,) = render(resolved(RunSpec(run="train.py", env=env), host=host))
    assert job["metadata"]["annotations"].get("gpuyard.io/shell-pythonpath") == noted
    names = [each["name"] for each in job["spec"]["template"]["spec"]["containers"][0]["env"]]
    assert ("PYTHONPATH" in names) == (noted is None)
