import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.agent.options.device_lists import DeviceList
from gpuyard.agent.options.sharing import Sharing, SharingStrategy
from gpuyard.agent.plugin.config import AgentConfig, PreStart, parse_config
from gpuyard.agent.served import MigStrategy, ModelNames, Serving


def sharing(kind: str, **fields: Any) -> dict[str, Any]:
    return {"version": "v1", "sharing": {kind: fields}}


def test_an_empty_one_is_as_nvidias_plugin_without_options() -> None:
    assert parse_config({"version": "v1"}) == AgentConfig()
    assert parse_config({"version": "v1", "flags": None, "sharing": {}}) == AgentConfig()


def test_flags() -> None:
    config = parse_config(
        {
            "version": "v1",
            "flags": {
                "migStrategy": "mixed",
                "failOnInitError": True,
                "plugin": {
                    "deviceListStrategy": ["cdi-annotations", "envvar"],
                    "deviceIDStrategy": "index",
                    "passDeviceSpecs": True,
                    "allocationPolicy": "packed",
                    "preStart": "check",
                },
            },
            "resources": {"byModel": "instead"},
        }
    )
    assert config == AgentConfig(
        Serving(MigStrategy.MIXED, model_names=ModelNames.INSTEAD, packed=True),
        frozenset({DeviceList.CDI_ANNOTATIONS, DeviceList.ENVVAR, DeviceList.DEVICE_SPECS}),
        by_index=True,
        pre_start=PreStart.CHECK,
    )


def test_nvidias_example_of_time_slicing() -> None:
    raw = sharing(
        "timeSlicing",
        renameByDefault=False,
        failRequestsGreaterThanOne=False,
        resources=[{"name": "nvidia.com/gpu", "replicas": 10}],
    )
    assert parse_config(raw).serving.sharing == (Sharing(SharingStrategy.TIME_SLICING, 10),)


def test_chosen_gpus_of_chosen_nodes_are_shared_by_mps_with_limits() -> None:
    raw = sharing(
        "mps",
        renameByDefault=True,
        resources=[
            {"name": "gpu", "devices": [0, "GPU-7"], "nodes": ["a100-*"], "replicas": 4}
            | {"memory": "8Gi", "threads": 20},
            {"name": "gpu", "rename": "gpu-small", "replicas": 2},
        ],
    )
    config = parse_config(raw)
    first, second = config.serving.sharing
    assert first == Sharing(
        SharingStrategy.MPS,
        4,
        "nvidia.com/gpu",
        renamed="nvidia.com/gpu.shared",
        devices=("0", "GPU-7"),
        nodes=("a100-*",),
        one_at_most=True,
        memory_mib=8192,
        thread_percent=20,
    )
    assert second.renamed == "nvidia.com/gpu-small"
    assert config.on_node("a100-3").serving.sharing == (first, second)
    assert config.on_node("h100-3").serving.sharing == (second,)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([], "the file must be a mapping"),
        (sharing("mps", failRequestsGreaterThanOne=False), "must be true: a container is the client of one"),
        ({}, "version must be v1"),
        ({"version": "v1", "colour": 1}, "colour isn't a field that gpuyard has"),
        (
            {"version": "v1", "flags": {"migStrategy": "all"}},
            "flags.migStrategy must be one of none, single, mixed",
        ),
        ({"version": "v1", "flags": {"gdsEnabled": True}}, "flags.gdsEnabled isn't a field"),
        (
            {"version": "v1", "flags": {"plugin": {"deviceListStrategy": "cdi"}}},
            "flags.plugin.deviceListStrategy 'cdi' is none of auto, envvar",
        ),
        (
            {"version": "v1", "flags": {"plugin": {"passDeviceSpecs": "yes"}}},
            "must be true or false, not 'yes'",
        ),
        (
            {"version": "v1", "resources": {"gpus": []}},
            "resources.gpus isn't a field that gpuyard has; there are byModel",
        ),
        (
            {"version": "v1", "resources": {"byModel": "beside"}},
            "resources.byModel can't be beside: the kubelet counts each resource for itself",
        ),
        (sharing("timeSlicing", resources={}), "sharing.timeSlicing.resources must be a list"),
        (sharing("timeSlicing", resources=[{}]), "sharing.timeSlicing.resources[0].name"),
        (
            sharing("timeSlicing", resources=[{"name": "gpu"}]),
            "sharing.timeSlicing.resources[0].replicas is missing",
        ),
        (
            sharing("timeSlicing", resources=[{"name": "gpu", "replicas": 1}]),
            "sharing.timeSlicing.resources[0].replicas must be a number from 2 to 1024, not 1",
        ),
        (
            sharing("mps", resources=[{"name": "gpu", "replicas": 49}]),
            "must be a number from 2 to 48, not 49",
        ),
        (sharing("mps", resources=[{"name": "gpu", "replicas": True}]), "not True"),
        (
            sharing("timeSlicing", resources=[{"name": "gpu", "replicas": 2, "memory": "1Gi"}]),
            "sharing.timeSlicing.resources[0].memory isn't a field",
        ),
        (
            sharing("mps", resources=[{"name": "gpu", "replicas": 2, "memory": "much"}]),
            "sharing.mps.resources[0].memory must be an amount such as 20Gi, not 'much'",
        ),
        (sharing("mps", resources=[{"name": "gpu", "replicas": 2, "devices": 2}]), "must be all, or a list"),
        (
            sharing("mps", resources=[{"name": "gpu", "replicas": 2, "rename": "a b"}]),
            "'a b' is no name of a resource",
        ),
        (sharing("mps", resources=[{"name": "cpu/x", "replicas": 2}]), "'cpu/x' is nothing that nodes have"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(raw: Any, said: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        parse_config(raw)
    assert said in caught.value.message


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["version", "flags", "plugin", "sharing", "mps", "resources", "name", "replicas", "devices"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_anything_else_is_refused_in_words(raw: Any) -> None:
    try:
        parse_config({**raw, "version": "v1"} if isinstance(raw, dict) else raw)
    except errors.UsageError as error:
        assert error.message.startswith("the configuration of GPUs: ")
    assert json.dumps(raw) is not None
