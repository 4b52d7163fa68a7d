"""kubectl brings the reference: `kubectl patch --local` runs Kubernetes' own code."""

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.local.objects.kinds.schema import type_name
from gpuyard.local.objects.strategic_merge import strategic_merge

_POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p",
        "labels": {"a": "1", "b": "2"},
        "finalizers": ["one", "two", "three"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "A", "name": "a", "uid": "u1"}],
    },
    "spec": {
        "containers": [
            {
                "name": "a",
                "image": "x",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "args": ["1", "2"],
                "ports": [{"containerPort": 80, "name": "web"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
            },
            {"name": "b", "image": "y"},
            {"name": "c", "image": "z"},
        ],
        "tolerations": [{"key": "k", "operator": "Exists"}],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {"medium": "Memory"}}],
        "imagePullSecrets": [{"name": "s1"}],
        "nodeSelector": {"zone": "a"},
    },
    "status": {
        "phase": "Pending",
        "conditions": [{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [
            {"name": "a", "ready": True, "restartCount": 0, "image": "", "imageID": ""},
            {"name": "b", "ready": True, "restartCount": 0, "image": "", "imageID": ""},
        ],
    },
}
_NODE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n"},
    "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "NoSchedule"}]},
    "status": {
        "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}],
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}
_SERVICE_ACCOUNT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ServiceAccount",
    "metadata": {"name": "s"},
    "secrets": [{"name": "a"}],
    "imagePullSecrets": [{"name": "a"}],
}
_JOB: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "j"},
    "spec": {"backoffLimit": 3, "template": {"spec": {"containers": [{"name": "a", "image": "x"}]}}},
    "status": {"conditions": [{"type": "Suspended", "status": "True"}]},
}


def _spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


_CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "labels merge, null deletes": (_POD, {"metadata": {"labels": {"a": None, "c": "3"}}}),
    "null of a field that isn't there": (_POD, {"metadata": {"annotations": None, "labels": {"zz": None}}}),
    "container by name": (_POD, _spec(containers=[{"name": "b", "image": "new"}])),
    "a new container": (_POD, _spec(containers=[{"name": "d", "image": "new"}])),
    "old and new containers": (
        _POD,
        _spec(
            containers=[{"name": "c", "image": "1"}, {"name": "n", "image": "2"}, {"name": "a", "image": "3"}]
        ),
    ),
    "env by name": (
        _POD,
        _spec(containers=[{"name": "a", "env": [{"name": "B", "value": "9"}, {"name": "C", "value": "3"}]}]),
    ),
    "args are replaced": (_POD, _spec(containers=[{"name": "a", "args": ["9"]}])),
    "ports by number": (
        _POD,
        _spec(
            containers=[{"name": "a", "ports": [{"containerPort": 81}, {"containerPort": 80, "name": "x"}]}]
        ),
    ),
    "a quantity": (
        _POD,
        _spec(containers=[{"name": "a", "resources": {"limits": {"cpu": "2", "memory": None}}}]),
    ),
    "delete a container": (_POD, _spec(containers=[{"name": "b", "$patch": "delete"}])),
    "delete one that isn't there": (_POD, _spec(containers=[{"name": "q", "$patch": "delete"}])),
    "replace the list": (_POD, _spec(containers=[{"name": "z", "image": "z"}, {"$patch": "replace"}])),
    "replace a map": (_POD, _spec(nodeSelector={"$patch": "replace", "disk": "ssd"})),
    "delete a map": (_POD, _spec(nodeSelector={"$patch": "delete"})),
    "tolerations are atomic": (_POD, _spec(tolerations=[{"key": "n", "operator": "Exists"}])),
    "finalizers are a set": (_POD, {"metadata": {"finalizers": ["two", "four"]}}),
    "finalizers deleted": (_POD, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["two", "nine"]}}),
    "finalizers deleted, added and ordered": (
        _POD,
        {
            "metadata": {
                "$deleteFromPrimitiveList/finalizers": ["two"],
                "$setElementOrder/finalizers": ["three", "four", "one"],
                "finalizers": ["four"],
            }
        },
    ),
    "owners by uid": (
        _POD,
        {"metadata": {"ownerReferences": [{"uid": "u2", "name": "b"}, {"uid": "u1", "name": "c"}]}},
    ),
    "conditions by type": (
        _POD,
        {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "New", "status": "True"}]}},
    ),
    "container statuses are atomic": (
        _POD,
        {"status": {"containerStatuses": [{"name": "b", "ready": False}]}},
    ),
    "element order alone": (
        _POD,
        _spec(**{"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}),
    ),
    "element order with a change": (
        _POD,
        _spec(
            **{
                "$setElementOrder/containers": [{"name": "n"}, {"name": "c"}, {"name": "a"}],
                "containers": [{"name": "n", "image": "2"}, {"name": "c", "image": "1"}],
            }
        ),
    ),
    "element order with a deletion": (
        _POD,
        _spec(
            **{
                "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
                "containers": [{"name": "b", "$patch": "delete"}],
            }
        ),
    ),
    "retain keys": (
        _POD,
        _spec(volumes=[{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "m"}}]),
    ),
    "volume sources merge without it": (
        _POD,
        _spec(volumes=[{"name": "w", "emptyDir": {"sizeLimit": "1Gi"}}]),
    ),
    "nulls in what is new": (
        _POD,
        _spec(affinity={"nodeAffinity": None, "podAffinity": {}}, volumes=[{"name": "n", "emptyDir": None}]),
    ),
    "pull secrets of a pod": (_POD, _spec(imagePullSecrets=[{"name": "s2"}])),
    "empty list": (_POD, _spec(containers=[], tolerations=[])),
    "taints are atomic": (_NODE, _spec(taints=[{"key": "c", "effect": "NoExecute"}])),
    "taints removed": (_NODE, _spec(taints=None, unschedulable=True)),
    "addresses by type": (_NODE, {"status": {"addresses": [{"type": "Hostname", "address": "n"}]}}),
    "secrets of an account": (_SERVICE_ACCOUNT, {"secrets": [{"name": "b"}]}),
    "pull secrets of an account": (_SERVICE_ACCOUNT, {"imagePullSecrets": [{"name": "b"}]}),
    "a job's template": (_JOB, _spec(template={"spec": {"containers": [{"name": "a", "image": "y"}]}})),
    "a job's conditions": (_JOB, {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
}


def _type(manifest: dict[str, Any]) -> str:
    group = "batch" if manifest["kind"] == "Job" else "core"
    return f"{group}.v1.{manifest['kind']}"


@pytest.mark.kubectl
@pytest.mark.parametrize("name", _CASES)
def test_as_kubectl_does(name: str, tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not on PATH")
    manifest, patch = _CASES[name]
    file = tmp_path / "object.json"
    file.write_text(json.dumps(manifest))
    done = subprocess.run(
        [
            kubectl,
            "patch",
            "--local",
            "-f",
            str(file),
            "-o",
            "json",
            "--type=strategic",
            "-p",
            json.dumps(patch),
        ],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert _without_empty(strategic_merge(_type(manifest), manifest, patch)) == _without_empty(
        json.loads(done.stdout)
    )


def _without_empty(value: Any) -> Any:
    """kubectl writes typed objects: what is empty in one form is absent in the other."""
    if isinstance(value, dict):
        kept = {key: _without_empty(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, {}, [], "", 0, False)}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (_spec(containers=[{"image": "x"}]), "does not contain declared merge key: name"),
        (_spec(containers=["x"]), "must be objects"),
        (_spec(containers=[{"name": "a", "$patch": "grow"}]), "unknown patch type 'grow'"),
        ({"$patch": "grow"}, "unknown patch type 'grow'"),
        (
            _spec(volumes=[{"name": "v", "$retainKeys": ["name"], "configMap": {"name": "m"}}]),
            "doesn't name configMap",
        ),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": "two"}}, "must be a list"),
        (
            _spec(**{"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}),
            "doesn't match $setElementOrder/containers",
        ),
        (_spec(**{"$setElementOrder/containers": [{"image": "x"}]}), "does not contain declared merge key"),
    ],
)
def test_a_broken_patch_is_a_400(patch: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.BadRequest, match=message.replace("$", r"\$")):
        strategic_merge("core.v1.Pod", _POD, patch)


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1, 1), st.sampled_from(["a", "delete", "replace"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(
                [
                    "spec", "metadata", "containers", "name", "env", "finalizers", "labels", "volumes",
                    "$retainKeys", "$patch", "$setElementOrder/containers",
                    "$deleteFromPrimitiveList/finalizers",
                ]
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["spec", "metadata", "$patch"]), _JSON, max_size=2))
def test_any_patch_applies_or_is_a_400(patch: dict[str, Any]) -> None:
    before = copy.deepcopy(_POD)
    try:
        assert isinstance(strategic_merge("core.v1.Pod", _POD, patch), dict)
    except errors.BadRequest as refused:
        assert refused.message
    assert before == _POD


@given(st.permutations(["a", "b", "c"]), st.lists(st.sampled_from("abcde"), unique=True))
def test_a_merge_by_key_loses_nobody_and_doubles_nobody(old: list[str], new: list[str]) -> None:
    manifest = _spec(containers=[{"name": name, "image": "old"} for name in old])
    patch = _spec(containers=[{"name": name, "image": "new"} for name in new])
    containers = strategic_merge("core.v1.Pod", manifest, patch)["spec"]["containers"]
    assert sorted(c["name"] for c in containers) == sorted({*old, *new})
    assert all((c["image"] == "new") is (c["name"] in new) for c in containers)


def test_the_type_name_of_a_resource() -> None:
    from gpuyard.kube.objects import LEASES, PODS, PRIORITY_CLASSES

    assert [type_name(r) for r in (PODS, LEASES, PRIORITY_CLASSES)] == [
        "core.v1.Pod",
        "coordination.v1.Lease",
        "scheduling.v1.PriorityClass",
    ]


class _Counted(str):
    """Text that counts how often it is compared."""

    compared = 0

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        _Counted.compared += 1
        return str.__eq__(self, other)


def test_lists_are_merged_in_time_with_their_length() -> None:
    count = 3_000
    env = [{"name": _Counted(f"n{number}"), "value": "1"} for number in range(count)]
    change = [{"name": _Counted(f"n{number}"), "value": "2"} for number in range(count)]
    order = [{"name": _Counted(f"n{number}")} for number in reversed(range(count))]
    original = {"spec": {"containers": [{"name": "a", "env": env}]}}
    container = {"name": "a", "env": change[::-1], "$setElementOrder/env": order}
    _Counted.compared = 0
    merged = strategic_merge("core.v1.Pod", original, {"spec": {"containers": [container]}})
    found = merged["spec"]["containers"][0]["env"]
    assert [item["name"] for item in found] == [item["name"] for item in order]
    assert {item["value"] for item in found} == {"2"}
    assert _Counted.compared < 50 * count
