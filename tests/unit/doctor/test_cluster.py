"""Which links of a cluster's chain are broken, over facts that are made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.client.connection.credentials import Origin, Proof
from gpuyard.client.connection.kubeconfig import Connection
from gpuyard.doctor.check import Check, CheckState, Report
from gpuyard.doctor.cluster import judge
from gpuyard.doctor.cluster_facts import ClusterFacts
from gpuyard.doctor.permissions import needed
from gpuyard.doctor.registry import RegistryFact
from gpuyard.kube.objects import ADMISSION_BINDINGS, CLUSTER_ROLES, DAEMON_SETS, NODES, Manifest, Resource
from gpuyard.tenancy.access import Action
from gpuyard.tenancy.install import KINDS, install, resource_of
from gpuyard.tenancy.options import InstallOptions

FILE = Path("/home/ann/.kube/config")
ORDER = [
    "kubeconfig", "api", "credentials", "namespace", "permissions", "install", "agents", "plugins", "gpus",
    "driver", "toolkit", "cdi", "tenants", "registry", "storage", "quota",
]  # fmt: skip


def node(name: str = "a", *, gpus: int = 8, usable: int | None = None, **changes: Any) -> Manifest:
    labels = {
        "kubernetes.io/os": "linux",
        "nvidia.com/gpu.count": str(gpus),
        "nvidia.com/cuda.driver-version.full": "580.95.05",
        "gpuyard.io/gpu-model": "H100",
    }
    return {
        "metadata": {"name": name, "labels": _with(labels, changes.get("labels", {}))},
        "spec": changes.get("spec", {}),
        "status": {
            "capacity": {"nvidia.com/gpu": str(gpus)},
            "allocatable": {"nvidia.com/gpu": str(gpus if usable is None else usable)},
            "conditions": [{"type": "Ready", "status": changes.get("ready", "True")}],
            "nodeInfo": {
                "containerRuntimeVersion": changes.get("runtime", "containerd://2.1.5+unknown"),
                "kubeletVersion": changes.get("kubelet", "v1.34.3"),
            },
        },
    }


def _with(labels: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in {**labels, **changes}.items() if value is not None}


def agent(name: str = "a", ready: str = "True", waiting: Mapping[str, Any] | None = None) -> Manifest:
    states = [{"name": "plugin", "state": {"waiting": waiting}}] if waiting else []
    return {
        "metadata": {
            "name": f"agent-{name}",
            "namespace": "gpuyard-system",
            "labels": {"app.kubernetes.io/part-of": "gpuyard"},
        },
        "spec": {"nodeName": name, "containers": [{"image": "agent"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": states,
        },
    }


def parts(without: Sequence[str] = (), **options: Any) -> dict[Resource, Any]:
    """What an install has made, as a cluster lists it."""
    found: dict[Resource, Any] = {kind: [] for kind in KINDS}
    for manifest in install(InstallOptions("registry.example.com/agent:v1", **options)):
        if f"{manifest['kind']} {manifest['metadata']['name']}" not in without:
            found[resource_of(manifest)].append(manifest)
    for item in found[DAEMON_SETS]:
        item["status"] = {"desiredNumberScheduled": 1, "numberReady": 1}
    return found


def well(**changes: Any) -> ClusterFacts:
    """A cluster without a fault, but for these."""
    origin = Origin("gpu", FILE, "ann", FILE, Proof.TOKEN)
    facts = ClusterFacts(
        context="gpu",
        connection=Connection("https://gpu:6443", origin=origin),
        namespace="team",
        registry=RegistryFact(registry="registry.example.com"),
        version=(1, 34),
        user="ann",
        tenant={"metadata": {"name": "team"}},
        allowed=dict.fromkeys(needed("team"), True),
        installed=parts(simulate="H100:8"),
        nodes=[node()],
        pods=[agent()],
        storage_classes=[
            {
                "metadata": {
                    "name": "fast",
                    "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
                }
            }
        ],
        tenants=[],
        persistent_volumes=[],
        quotas=[],
        limit_ranges=[],
    )
    return replace(facts, **changes)


def check(report: Report, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


def look(name: str, **changes: Any) -> Check:
    return check(judge(well(**changes)), name)


def forbidden(resource: str) -> errors.Forbidden:
    return errors.Forbidden(
        f'{resource} is forbidden: User "ann" cannot list resource "{resource}" in API group "" at the '
        "cluster scope"
    )


def test_a_cluster_without_a_fault() -> None:
    report = judge(well(nodes=[node(labels={"gpuyard.io/simulated": "true"})]))
    assert [check.name for check in report.checks] == ORDER
    outcomes = {check.name: check.outcome for check in report.checks}
    assert outcomes.pop("toolkit") is CheckState.SKIPPED
    assert outcomes.pop("tenants") is CheckState.SKIPPED
    assert set(outcomes.values()) == {CheckState.OK}, report
    assert report.first_broken is None
    assert check(report, "gpus").message == "8 on 1 node: H100 (simulated)"
    assert check(report, "driver").message == "580.95.05 (simulated)"
    assert (
        check(report, "kubeconfig").message == f"context gpu goes to https://gpu:6443 as user 'ann' of {FILE}"
    )


# -- the way there --------------------------------------------------------------------------------------


def test_without_a_kubeconfig_the_rest_is_skipped() -> None:
    lost = errors.UsageError("no context 'gpu'", remedy="contexts there: none")
    report = judge(well(connection=lost, registry=RegistryFact(image="a/b:1", asked=True)))
    first, *rest = report.checks
    assert (first.name, first.outcome, first.remedy) == (
        "kubeconfig",
        CheckState.BROKEN,
        "contexts there: none",
    )
    assert report.first_broken is first
    # The registry has nothing to do with the cluster's API.
    assert {c.outcome for c in rest if c.name != "registry"} == {CheckState.SKIPPED}
    assert {c.message for c in rest if c.name != "registry"} == {"kubeconfig comes first"}
    assert check(report, "registry").outcome is CheckState.OK


def test_an_api_that_does_not_answer() -> None:
    away = errors.ConnectionFailed("the API at https://gpu:6443 doesn't answer: …", remedy="is it up?")
    report = judge(well(version=away, user=away))
    assert report.first_broken == check(report, "api")
    assert check(report, "credentials").message == check(report, "quota").message == "api comes first"


def test_an_old_cluster_is_looked_at_all_the_same() -> None:
    report = judge(well(version=(1, 27)))
    assert check(report, "api").message == "this cluster is Kubernetes 1.27, and gpuyard needs 1.28 or later"
    assert check(report, "quota").outcome is CheckState.OK


def test_credentials_that_are_not_taken() -> None:
    refused = errors.Unauthorized("…: the token of user 'ann' expired", remedy="get a new one")
    report = judge(well(version=refused, user=refused))
    assert check(report, "api").outcome is CheckState.OK
    assert report.first_broken == check(report, "credentials")
    assert check(report, "permissions").message == "credentials comes first"


def test_strangers_are_told() -> None:
    assert "without credentials" in look("credentials", user="system:anonymous").message
    # A server may keep its version, and who we are, to itself.
    shy = judge(well(version=forbidden("x"), user=""))
    assert [check(shy, name).outcome for name in ("api", "credentials")] == [CheckState.OK, CheckState.OK]


@pytest.mark.parametrize(
    ("tenant", "outcome", "said"),
    [
        (errors.NotFound("no"), CheckState.BROKEN, "there is no namespace team"),
        ({"metadata": {"deletionTimestamp": "now"}}, CheckState.BROKEN, "is being deleted"),
        (forbidden("namespaces"), CheckState.SKIPPED, "ann may not list namespaces"),
        (errors.InternalError("etcd is away", remedy="wait"), CheckState.BROKEN, "etcd is away"),
    ],
)
def test_namespaces(tenant: object, outcome: CheckState, said: str) -> None:
    found = look("namespace", tenant=tenant)
    assert found.outcome is outcome and said in found.message


# -- permissions ----------------------------------------------------------------------------------------


def allowed(*missing: Action) -> dict[Action, bool]:
    return {action: action not in missing for action in needed("team")}


def test_what_is_missing_in_the_namespace_is_broken() -> None:
    gaps = (Action("create", "batch", "jobs", "team"), Action("patch", "batch", "jobs", "team"))
    found = look("permissions", allowed=allowed(*gaps, Action("get", "", "pods/log", "team")))
    assert found.outcome is CheckState.BROKEN
    assert found.message == "ann may not create,patch jobs.batch; get pods/log in namespace team"
    assert found.remedy.startswith("gpuyard-submitter allows it")
    assert "--user=ann --namespace=team" in found.remedy


def test_what_is_missing_in_the_cluster_is_a_warning() -> None:
    found = look("permissions", allowed=allowed(Action("list", "", "nodes"), Action("list", "", "pods")))
    assert (found.outcome, found.message) == (
        CheckState.WARNING,
        "ann may not list nodes; list pods in the cluster: `explain`, `nodes` and placement know less",
    )
    assert "kubectl create clusterrolebinding gpuyard-capacity-ann" in found.remedy
    assert "env too, and none of their logs" in found.remedy


def test_both_come_with_both_commands() -> None:
    gaps = (Action("delete", "batch", "jobs", "team"), Action("get", "", "nodes"))
    found = look("permissions", allowed=allowed(*gaps))
    assert "delete jobs.batch in namespace team, nor get nodes in the cluster" in found.message
    assert [line.split(" ")[0] for line in found.remedy.splitlines()] == [
        "gpuyard-submitter",
        "gpuyard-nodes",
    ]


def test_each_needed_verb_is_in_a_role() -> None:
    """Who has gpuyard-submitter, in the namespace and in the cluster, lacks nothing."""
    found = look("permissions", allowed=dict.fromkeys(needed("team"), False))
    assert all(line.startswith("gpuyard-") for line in found.remedy.splitlines())


# -- the install ----------------------------------------------------------------------------------------


def test_half_an_install() -> None:
    some = parts(["ClusterRole gpuyard-viewer", "PriorityClass gpuyard-low"], simulate="H100:8")
    found = look("install", installed=some)
    assert found.outcome is CheckState.BROKEN
    assert "there is no ClusterRole gpuyard-viewer, no PriorityClass gpuyard-low" in found.message


def test_a_rule_that_was_taken_from_a_role_is_named() -> None:
    some = parts(simulate="H100:8", taint=True)
    role = next(r for r in some[CLUSTER_ROLES] if r["metadata"]["name"] == "gpuyard-labeller")
    role["rules"][0]["verbs"].remove("patch")
    found = look("install", installed=some)
    assert found.outcome is CheckState.BROKEN
    assert (
        "isn't as gpuyard" in found.message
        and "ClusterRole gpuyard-labeller (rules[0].verbs)" in found.message
    )
    assert found.remedy == (
        "run gpuyard install --context gpu --image registry.example.com/agent:v1 --simulate H100:8 --taint"
    )


def test_a_policy_that_only_watches_is_warned_of() -> None:
    some = parts(simulate="H100:8")
    some[ADMISSION_BINDINGS][0]["spec"]["validationActions"] = ["Audit"]
    found = look("install", installed=some)
    assert (
        found.outcome is CheckState.WARNING
        and "gpuyard-labeller (spec.validationActions[0])" in found.message
    )


def test_an_old_cluster_has_no_policy_to_miss() -> None:
    old = parts(simulate="H100:8", confine=False)
    assert look("install", installed=old, version=(1, 29)).outcome is CheckState.OK
    assert "no ValidatingAdmissionPolicy gpuyard-labeller" in look("install", installed=old).message


def test_no_install() -> None:
    nothing: dict[Resource, Any] = {kind: [] for kind in KINDS}
    bare = well(installed=nothing, pods=[], nodes=[node(gpus=0, labels={"gpuyard.io/gpu-model": ""})])
    assert check(judge(bare), "install").outcome is CheckState.BROKEN
    assert check(judge(bare), "agents").outcome is CheckState.SKIPPED
    found = check(judge(replace(bare, nodes=[node()])), "install")
    assert (found.outcome, "something else serves the GPUs" in found.message) == (CheckState.WARNING, True)


def test_what_may_not_be_seen_is_said() -> None:
    hidden: dict[Resource, Any] = {kind: forbidden(kind.plural) for kind in KINDS}
    found = look("install", installed=hidden)
    assert (found.outcome, found.message) == (
        CheckState.OK,
        "its agents are in gpuyard-system; the rest is for whoever runs the cluster",
    )
    found = look("install", installed=hidden, pods=[])
    assert found.outcome is CheckState.SKIPPED and "ann may not list daemonsets" in found.message
    # No role is named: who submits runs needs none for that.
    assert (found.message.endswith("which is for whoever runs the cluster"), found.remedy) == (True, "")
    partly = parts(simulate="H100:8") | {CLUSTER_ROLES: forbidden("clusterroles")}
    found = look("install", installed=partly)
    assert (found.outcome, found.message) == (
        CheckState.OK,
        "complete, in gpuyard-system; of clusterroles you may see nothing",
    )


def test_nodes_that_may_not_be_seen() -> None:
    for name in ("agents", "plugins", "gpus", "driver", "toolkit", "cdi"):
        found = look(name, nodes=forbidden(NODES.plural))
        assert (found.outcome, found.message) == (CheckState.SKIPPED, "ann may not list nodes")
        assert "gpuyard-nodes allows it" in found.remedy


# -- storage, registry ----------------------------------------------------------------------------------


def storage_class(name: str, **annotations: str) -> Manifest:
    return {"metadata": {"name": name, "annotations": annotations}}


def test_storage() -> None:
    found = look("storage", storage_classes=[storage_class("slow"), storage_class("fast")])
    assert found.outcome is CheckState.WARNING
    assert (
        "kubectl annotate storageclass fast storageclass.kubernetes.io/is-default-class=true" in found.remedy
    )
    assert "install a storage driver" in look("storage", storage_classes=[]).remedy
    beta = {"storageclass.beta.kubernetes.io/is-default-class": "true"}
    assert look("storage", storage_classes=[storage_class("old", **beta)]).outcome is CheckState.OK


@pytest.mark.parametrize(
    ("fact", "outcome", "said"),
    [
        (RegistryFact(), CheckState.SKIPPED, "--registry"),
        (RegistryFact("r:5000"), CheckState.OK, "r:5000 answers"),
        (RegistryFact("r:5000", "r:5000/a:1", asked=True), CheckState.OK, "r:5000/a:1 can be read from here"),
        (
            RegistryFact("r", asked=True, failure=errors.RegistryUnavailable("away")),
            CheckState.BROKEN,
            "away",
        ),
        (RegistryFact("r", failure=errors.RegistryUnavailable("away")), CheckState.WARNING, "away"),
    ],
)
def test_registries(fact: RegistryFact, outcome: CheckState, said: str) -> None:
    found = look("registry", registry=fact)
    assert found.outcome is outcome and said in found.message


def test_for_machines() -> None:
    raw = judge(well(version=(1, 27))).to_json()
    assert {key: raw[key] for key in raw if key != "checks"} == {
        "target": "cluster",
        "context": "gpu",
        "outcome": "broken",
        "first_broken": "api",
    }
    assert [c["name"] for c in raw["checks"]] == ORDER
    agents = next(c for c in raw["checks"] if c["name"] == "agents")
    assert agents == {
        "name": "agents",
        "outcome": "ok",
        "message": "1 of 1 run",
        "remedy": None,
        "nodes": [{"name": "a", "outcome": "ok", "message": "ready"}],
    }
