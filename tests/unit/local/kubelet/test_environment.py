from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.local.kubelet.environment import (
    Sources,
    command_line,
    compose,
    own_environment,
    referenced_names,
)

POD: dict[str, Any] = {
    "metadata": {
        "name": "p",
        "namespace": "ns",
        "uid": "u-1",
        "labels": {"a/b": "label"},
        "annotations": {"batch.kubernetes.io/job-completion-index": "3"},
    },
    "spec": {
        "nodeName": "here",
        "containers": [{"name": "other", "resources": {"requests": {"memory": "1Gi"}}}, {"name": "main"}],
    },
}
SOURCES = Sources(
    config_maps={"c": {"A": "from-c", "B": "$(A)"}, "gone": None},
    secrets={"s": {"A": "from-s", "KEY": "secret"}, "gone": None},
)
ALLOCATABLE = {"cpu": "8", "memory": "32Gi"}


def _own(*env: dict[str, Any], **container: Any) -> dict[str, str]:
    main = {"name": "main", "env": list(env), **container}
    return own_environment(POD, main, SOURCES, ALLOCATABLE, {"PATH": "/bin"})


def _from(kind: str, **reference: Any) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {kind: reference}}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (_from("configMapKeyRef", name="c", key="A"), "from-c"),
        (_from("configMapKeyRef", name="c", key="B"), "$(A)"),  # only `value` is expanded
        (_from("secretKeyRef", name="s", key="KEY"), "secret"),
        (_from("fieldRef", fieldPath="metadata.name"), "p"),
        (_from("fieldRef", fieldPath="metadata.uid"), "u-1"),
        (_from("fieldRef", fieldPath="metadata.labels['a/b']"), "label"),
        (_from("fieldRef", fieldPath="metadata.labels['none']"), ""),
        (
            _from("fieldRef", fieldPath="metadata.annotations['batch.kubernetes.io/job-completion-index']"),
            "3",
        ),
        (_from("fieldRef", fieldPath="spec.nodeName"), "here"),
        (_from("fieldRef", fieldPath="status.podIP"), "127.0.0.1"),
        (_from("resourceFieldRef", resource="limits.cpu"), "2"),
        (_from("resourceFieldRef", resource="limits.cpu", divisor="1m"), "1500"),
        (_from("resourceFieldRef", resource="limits.memory", divisor="1Gi"), "32"),  # the node's
        (_from("resourceFieldRef", resource="requests.cpu"), "0"),
        (_from("resourceFieldRef", resource="requests.memory", divisor="1Mi", containerName="other"), "1024"),
        ({"name": "X", "value": "$(PATH)"}, "/bin"),
        ({"name": "X", "value": "$(NOBODY)"}, "$(NOBODY)"),
        ({"name": "X"}, ""),
    ],
)
def test_where_a_value_comes_from(variable: dict[str, Any], value: str) -> None:
    assert _own(variable, resources={"limits": {"cpu": "1500m"}}) == {"X": value}


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        (_from("configMapKeyRef", name="gone", key="A"), 'configmap "gone" not found'),
        (_from("secretKeyRef", name="s", key="none"), "couldn't find key none in Secret ns/s"),
        (_from("fieldRef", fieldPath="status.phase"), "no field status.phase"),
    ],
)
def test_a_reference_that_leads_nowhere(variable: dict[str, Any], text: str) -> None:
    with pytest.raises(errors.ContainerConfigError, match=text):
        _own(variable)


def test_an_optional_reference_that_leads_nowhere_sets_nothing() -> None:
    assert _own(_from("configMapKeyRef", name="gone", key="A", optional=True)) == {}
    assert _own(_from("secretKeyRef", name="s", key="none", optional=True)) == {}
    assert _own(envFrom=[{"secretRef": {"name": "gone", "optional": True}}]) == {}


def test_variables_that_double_one_another_are_refused() -> None:
    doubling = [{"name": f"V{n}", "value": f"$(V{n - 1})" * 2} for n in range(1, 60)]
    with pytest.raises(errors.StartError, match="longer than 6 MiB"):
        _own({"name": "V0", "value": "x"}, *doubling)


def test_more_than_a_process_can_be_given_is_refused() -> None:
    env = [{"name": "A", "value": "x" * 100_000}, *({"name": f"B{n}", "value": "$(A)"} for n in range(1000))]
    with pytest.raises(errors.StartError, match="longer than"):
        _own(*env)
    refs = [{"prefix": f"P{n}_", "configMapRef": {"name": "big"}} for n in range(100)]
    sources = Sources(config_maps={"big": {"KEY": "x" * 100_000}})
    with pytest.raises(errors.StartError, match="longer than"):
        own_environment(POD, {"name": "main", "envFrom": refs}, sources, ALLOCATABLE, {})
    with pytest.raises(errors.StartError, match="longer than"):
        command_line({"name": "main", "command": ["$(A)"] * 1000}, {"A": "x" * 100_000})


def test_env_from_later_wins_and_env_wins_over_both() -> None:
    found = _own(
        {"name": "B", "value": "own $(A) $(P_KEY)"},
        envFrom=[
            {"configMapRef": {"name": "c"}},
            {"secretRef": {"name": "s"}},
            {"prefix": "P_", "secretRef": {"name": "s"}},
        ],
    )
    assert found == {
        "A": "from-s",
        "B": "own from-s secret",
        "KEY": "secret",
        "P_A": "from-s",
        "P_KEY": "secret",
    }


def test_env_from_a_missing_object() -> None:
    with pytest.raises(errors.ContainerConfigError, match='secret "gone" not found'):
        _own(envFrom=[{"secretRef": {"name": "gone"}}])


def test_referenced_names() -> None:
    container = {
        "envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}],
        "env": [
            {"name": "X", "value": "1"},
            _from("configMapKeyRef", name="c", key="k"),
            _from("secretKeyRef", name="d", key="k"),
            _from("fieldRef", fieldPath="metadata.name"),
        ],
    }
    assert referenced_names(container) == ({"a", "c"}, {"b", "d"})


@pytest.mark.parametrize(
    ("allocated", "nvidia", "cuda"),
    [
        ({}, "void", ""),
        ({"NVIDIA_VISIBLE_DEVICES": "GPU-1", "CUDA_VISIBLE_DEVICES": "GPU-1"}, "GPU-1", "GPU-1"),
        ({"NVIDIA_VISIBLE_DEVICES": "GPU-1,GPU-2"}, "GPU-1,GPU-2", "GPU-1,GPU-2"),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, "void", ""),
        ({"OTHER_VENDOR": "1"}, "void", ""),
    ],
)
@pytest.mark.parametrize("own", [{}, {"NVIDIA_VISIBLE_DEVICES": "all", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}])
def test_the_allocation_decides_which_gpus_are_seen(
    allocated: Mapping[str, str], nvidia: str, cuda: str, own: Mapping[str, str]
) -> None:
    found = compose({"PATH": "/bin"}, allocated, own, 29500, hides_nvidia=True, hides_amd=True)
    assert (found["NVIDIA_VISIBLE_DEVICES"], found["CUDA_VISIBLE_DEVICES"]) == (nvidia, cuda)


@pytest.mark.parametrize(
    ("allocated", "rocr", "hip"),
    [
        ({}, "", ""),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1"}, "", ""),
        ({"ROCR_VISIBLE_DEVICES": "GPU-a,GPU-b", "HIP_VISIBLE_DEVICES": "0,1"}, "GPU-a,GPU-b", "0,1"),
        ({"HIP_VISIBLE_DEVICES": "0"}, None, "0"),
    ],
)
@pytest.mark.parametrize("own", [{}, {"ROCR_VISIBLE_DEVICES": "0,1,2", "HIP_VISIBLE_DEVICES": "0,1,2"}])
def test_the_allocation_decides_which_gpus_rocm_sees(
    allocated: Mapping[str, str], rocr: str | None, hip: str, own: Mapping[str, str]
) -> None:
    found = compose({"PATH": "/bin"}, allocated, own, 29500, hides_nvidia=True, hides_amd=True)
    assert (found.get("ROCR_VISIBLE_DEVICES"), found["HIP_VISIBLE_DEVICES"]) == (rocr, hip)


def test_of_amd_gpus_nothing_is_said_where_there_are_none() -> None:
    own = {"HIP_VISIBLE_DEVICES": "0"}
    found = compose({}, {"CUDA_VISIBLE_DEVICES": "GPU-1"}, own, 29500, hides_nvidia=True, hides_amd=False)
    assert not {"HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"} & found.keys()


@pytest.mark.parametrize(
    ("allocated", "hides_nvidia", "cuda"),
    [
        ({"HIP_VISIBLE_DEVICES": "0,1"}, False, None),
        ({"HIP_VISIBLE_DEVICES": "0,1"}, True, ""),
        ({}, False, ""),
        ({"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "GPU-1"}, False, "GPU-1"),
    ],
)
def test_with_amds_gpus_nothing_is_said_of_cudas_where_there_are_none(
    allocated: Mapping[str, str], hides_nvidia: bool, cuda: str | None
) -> None:
    own = {"CUDA_VISIBLE_DEVICES": "0"}
    found = compose({}, allocated, own, 29500, hides_nvidia=hides_nvidia, hides_amd=True)
    assert found.get("CUDA_VISIBLE_DEVICES") == cuda


def test_a_pod_has_the_shares_and_the_mps_daemon_that_it_was_given() -> None:
    own = {"CUDA_MPS_PIPE_DIRECTORY": "/own", "GPUYARD_SHARES": "GPU-2::0"}
    given = {"CUDA_MPS_PIPE_DIRECTORY": "/run/mps", "GPUYARD_SHARES": "GPU-1::0"}
    found = compose({}, given, own, 29500, hides_nvidia=True, hides_amd=True)
    assert {name: found[name] for name in given} == given
    # One without shares may run a daemon of its own, and has nobody's.
    found = compose({}, {}, own, 29500, hides_nvidia=True, hides_amd=True)
    assert found["CUDA_MPS_PIPE_DIRECTORY"] == "/own" and "GPUYARD_SHARES" not in found


_VARIABLES = st.dictionaries(
    st.sampled_from(["PATH", "A", "B", "PET_MASTER_PORT", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"]),
    st.text(max_size=3),
)


@given(base=_VARIABLES, allocated=_VARIABLES, own=_VARIABLES)
def test_last_wins(base: dict[str, str], allocated: dict[str, str], own: dict[str, str]) -> None:
    found = compose(base, allocated, own, 4711, hides_nvidia=True, hides_amd=True)
    gpus = {f"{whose}_VISIBLE_DEVICES" for whose in ("NVIDIA", "CUDA", "ROCR", "HIP")}
    for name in found.keys() - gpus - {"PET_MASTER_PORT"}:
        assert found[name] == own.get(name, allocated.get(name, base.get(name)))
    assert found["PET_MASTER_PORT"] == own.get("PET_MASTER_PORT", "4711")
    assert gpus - found.keys() <= {"ROCR_VISIBLE_DEVICES"}


def test_command_and_args_are_expanded() -> None:
    container = {"name": "main", "command": ["$(PY)", "-c"], "args": ["$$(PY) $(NONE) $PY"]}
    assert command_line(container, {"PY": "python3"}) == ["python3", "-c", "$(PY) $(NONE) $PY"]


def test_no_command() -> None:
    with pytest.raises(errors.StartError, match="container main has no command"):
        command_line({"name": "main"}, {})
