import json
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.kube.objects import JOBS, PODS
from gpuyard.local.objects.kinds import schema
from gpuyard.local.objects.kinds.served import yard_kinds

_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["metadata", "spec", "containers", "labels", "resources", "limits", "cpu", "zz"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=15,
)


def _pod(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


def test_every_kind_and_every_reference_is_in_the_schema() -> None:
    types = schema.types()
    assert {schema.type_name(spec.resource) for spec in yard_kinds()} <= types.keys()
    for name, info in types.items():
        for field, kind in info.fields.items():
            scalar = kind.lstrip("[{")
            assert scalar in "sbilqtuxdj" or scalar.removeprefix("@") in types, f"{name}.{field}"
        assert set(info.required) | (info.patch or {}).keys() <= info.fields.keys()


def test_the_schema_stays_small() -> None:
    folder = resources.files("gpuyard.local.objects.kinds")
    assert len(folder.joinpath("schema.json").read_bytes()) < 60_000
    assert json.loads(folder.joinpath("descriptions.json").read_text()).keys() == schema.types().keys()


def test_a_known_manifest_comes_back_as_a_copy() -> None:
    given_ = _pod(containers=[{"name": "a", "env": [{"name": "A", "value": "1"}]}], nodeSelector={"a": "b"})
    found, unknown = schema.decode("core.v1.Pod", given_)
    assert found == given_
    assert unknown == []
    found["spec"]["containers"][0]["env"].clear()
    found["spec"]["nodeSelector"].clear()
    assert given_["spec"]["containers"][0]["env"]
    assert given_["spec"]["nodeSelector"]


def test_unknown_fields_are_named_and_dropped() -> None:
    given_ = _pod(foo=1, containers=[{"name": "a"}, {"name": "b", "bar": {"x": 1}, "env": [{"zz": None}]}])
    given_["extra"] = None
    found, unknown = schema.decode("core.v1.Pod", given_)
    assert found["spec"] == {"containers": [{"name": "a"}, {"name": "b", "env": [{}]}]}
    assert sorted(unknown) == ["extra", "spec.containers[1].bar", "spec.containers[1].env[0].zz", "spec.foo"]
    assert schema.strict_error(PODS, ["spec.foo", "x"]).message == (
        'Pod in version "v1" cannot be handled as a Pod: strict decoding error: '
        'unknown field "spec.foo", unknown field "x"'
    )


def test_nulls_are_absent_fields_and_zero_elements() -> None:
    given_ = _pod(containers=[{"name": None, "args": ["a", None]}], nodeSelector={"a": None}, volumes=None)
    found, _ = schema.decode("core.v1.Pod", given_)
    assert found["spec"] == {"containers": [{"args": ["a", ""]}], "nodeSelector": {"a": ""}}


def test_quantities_and_times_are_canonical() -> None:
    limits = {"cpu": 0.5, "memory": "2048Mi", "nvidia.com/gpu": 1, "ephemeral-storage": "1000"}
    given_ = _pod(containers=[{"resources": {"limits": limits}}])
    given_["metadata"] = {"creationTimestamp": "2026-01-31T13:00:00.5+01:00"}
    found, _ = schema.decode("core.v1.Pod", given_)
    assert found["spec"]["containers"][0]["resources"]["limits"] == {
        "cpu": "500m",
        "memory": "2Gi",
        "nvidia.com/gpu": "1",
        "ephemeral-storage": "1k",
    }
    assert found["metadata"]["creationTimestamp"] == "2026-01-31T12:00:00Z"
    lease, _ = schema.decode("coordination.v1.Lease", {"spec": {"renewTime": "2026-01-31T12:00:00Z"}})
    assert lease["spec"]["renewTime"] == "2026-01-31T12:00:00.000000Z"


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (_pod(containers={}), "object into Go struct field PodSpec.spec.containers of type []v1.Container"),
        (
            _pod(containers=[{"env": [{"name": "A"}, {"value": 1}]}]),
            "number into Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            _pod(terminationGracePeriodSeconds="3"),
            "string into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64",
        ),
        (_pod(priority=2**31), "number 2147483648 into Go struct field PodSpec.spec.priority of type int32"),
        (_pod(priority=1.5), "number 1.5 into Go struct field PodSpec.spec.priority of type int32"),
        (_pod(hostNetwork="true"), "string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        (
            _pod(nodeSelector=[]),
            "array into Go struct field PodSpec.spec.nodeSelector of type map[string]string",
        ),
        (
            _pod(nodeSelector={"a": True}),
            "bool into Go struct field PodSpec.spec.nodeSelector of type string",
        ),
        (_pod(affinity=[]), "array into Go struct field PodSpec.spec.affinity of type v1.Affinity"),
        ([], "array into Go value of type v1.Pod"),
    ],
)
def test_a_wrong_type_is_told_in_gos_words(manifest: Any, message: str) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        schema.decode("core.v1.Pod", manifest)
    assert caught.value.message == (
        f'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal {message}'
    )


@pytest.mark.parametrize(
    ("type_", "manifest", "path", "rule"),
    [
        ("core.v1.Pod", _pod(containers=[{"resources": {"limits": {"cpu": "x"}}}]),
         "spec.containers[0].resources.limits[cpu]", "quantities must match the regular expression"),
        ("core.v1.Pod", {"metadata": {"creationTimestamp": "today"}},
         "metadata.creationTimestamp", "RFC 3339"),
        ("core.v1.Pod", {"metadata": {"creationTimestamp": "2026-13-31T12:00:00Z"}},
         "metadata.creationTimestamp", "RFC 3339"),
        ("core.v1.Pod", {"metadata": {"creationTimestamp": "2026-01-31T12:00:00"}},
         "metadata.creationTimestamp", "RFC 3339"),
        ("core.v1.Secret", {"data": {"a": "%%%"}}, "data[a]", "illegal base64 data"),
        ("core.v1.Secret", {"data": {"a": "ä"}}, "data[a]", "illegal base64 data"),
    ],
)  # fmt: skip
def test_a_malformed_scalar_is_told_with_its_path(type_: str, manifest: Any, path: str, rule: str) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        schema.decode(type_, manifest)
    assert f" {path}: " in caught.value.message
    assert rule in caught.value.message


@given(_JSON)
def test_any_json_decodes_or_is_a_400_and_decoding_again_changes_nothing(value: Any) -> None:
    for resource in (PODS, JOBS):
        try:
            found, _ = schema.decode(schema.type_name(resource), value)
        except errors.BadRequest:
            continue
        assert schema.decode(schema.type_name(resource), found) == (found, [])
