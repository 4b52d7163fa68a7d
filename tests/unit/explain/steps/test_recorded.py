"""Every step over what a real cluster (Kubernetes 1.34, containerd 2.1) said of runs that it held there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import Finding, Owner
from gpuyard.explain.ladder import Ladder
from gpuyard.explain.output.diagnosis import Diagnosis
from tests.unit.explain.steps.conftest import objects_of

Recorded = Callable[..., Ladder]


@pytest.mark.parametrize(
    ("name", "cause", "headline", "remedy"),
    [
        ("gated", "job/gated", "the scheduling gate example.com/wait", "whoever set the gate"),
        ("suspended", "job/suspended", "somebody suspended", "let it go on: kubectl patch job suspended"),
        ("quota-gpu", "quota/quota", "quota team lets no more in: 2 of 2 GPUs used, needs 1",
         "wait for run holder to end, or stop it"),
        ("quota-cpu", "quota/quota", "0 of 1 CPU used, needs 1500m", "ask for 1 CPU instead of 1500m"),
        ("quota-unset", "quota/quota_unset", "counts limits.memory, requests.cpu",
         "set --memory (at most 1Gi) and --cpus (at most 1)"),
        ("limitrange", "quota/limit_range", "nvidia.com/gpu is maximum 1 per Container",
         "ask for 1Gi memory instead of 2Gi and ask for 1 GPU instead of 2"),
        ("podsecurity", "admission/pod_security", 'enforces Pod Security "restricted", and the pod breaks 5',
         "set what the parentheses say"),
        ("policy", "admission/policy", "policy gpuyard-tenants denies", "change the run as the policy says"),
        ("no-account", "admission/no_service_account", "no ServiceAccount nope in namespace xrec", "leave"),
        ("no-priority", "admission/no_priority_class", "no PriorityClass nope", "leave --priority out"),
        ("no-runtimeclass", "admission/no_runtime_class", "no RuntimeClass nope", "leave runtimeClassName"),
        ("too-large", "nodes/too_large", "needs 9 GPUs, the largest node node-a has 8", "ask for 8 GPUs"),
        ("hostname", "nodes/model", "it needs is H200; there is H100", "use H100 instead of H200"),
        ("selector", "nodes/selector", "hasn't the label hardware-typ=nvidia-gpu",
         "select hardware-type=nvidia-gpu instead of hardware-typ=nvidia-gpu"),
        ("taint", "nodes/taints", "the taint nvidia.com/gpu=present:NoSchedule", "tolerate the taint"),
        ("managed", "job/managed", "are to come from example.com/other", "see that example.com/other runs"),
        ("no-scheduler", "nodes/no_scheduler", "no scheduler of that name", "leave schedulerName out"),
        ("no-resource-claim", "nodes/no_resource_claim", "no ResourceClaim nope in namespace cases", "make"),
        ("no-claim-template", "nodes/no_resource_claim", "no ResourceClaimTemplate nope", "make"),
        ("resource-name", "nodes/no_resource", "no node offers nvidia.com/gpus",
         "ask for nvidia.com/gpu instead of nvidia.com/gpus and tolerate the taint"),
        ("mig", "nodes/no_resource", "no node offers nvidia.com/mig-1g.10gb",
         "ask for nvidia.com/gpu instead of nvidia.com/mig-1g.10gb"),
        ("spread-label", "nodes/spread_label", "no node has the label rack", "leave that constraint out"),
        ("antiaff", "nodes/pod_affinity", "affinity to other pods", "mend podAffinity"),
        ("hostport", "nodes/ports", "the hostPort that it asks for", "leave hostPort out"),
        ("no-pvc", "volumes/no_claim", "no PersistentVolumeClaim nope in namespace xrec", "make the claim"),
        ("pvc-noclass", "volumes/no_default_class", "the cluster has no default one", "make the claim anew"),
        ("pvc-badclass", "volumes/no_class", "there is no StorageClass nope", "xrec-ext, xrec-wait"),
        ("pvc-waits", "volumes/no_volume", "class xrec-wait makes no volumes", "make a PersistentVolume"),
        ("pvc-ext", "volumes/provisioning", "example.com/none hasn't made", "see whether example.com/none"),
        ("pv-elsewhere", "volumes/volume_elsewhere", "kubernetes.io/hostname In node-z", "run it on the"),
        ("no-configmap", "volumes/no_config_map", "no ConfigMap nope", "kubectl create configmap nope"),
        ("no-secret", "volumes/no_secret", "no Secret nope", "kubectl create secret generic nope"),
        ("image-missing", "image/image_not_found", "has no 127.0.0.1:34615/nope:1", "check name and tag"),
        ("image-refused", "image/registry_unreachable", "registry 127.0.0.1:1 doesn't answer node", "check"),
        ("image-nohost", "image/registry_unreachable", "registry registry.invalid doesn't answer", "check"),
        ("image-invalid", "image/image_name", "'UPPER case:1' isn't an image's name", "in lower case"),
        ("image-never", "image/image_never_pulled", "imagePullPolicy Never", "leave imagePullPolicy out"),
        ("no-cdi", "devices/no_cdi_device", "doesn't know CDI device nvidia.com/gpu=GPU-", "no other file"),
        ("no-healthy-devices", "devices/no_healthy_devices", "node node-a refused the pod", "submit it"),
        ("too-few-devices", "devices/out_of_devices", "asks for 3 nvidia.com/gpu, and 2 free", "submit it"),
        ("bad-runtimeclass", "start/no_runtime", "has no handler nope", "leave runtimeClassName out"),
        ("no-envconfig", "start/no_config_map", "no ConfigMap nope", "kubectl create configmap nope"),
        ("nonroot", "start/runs_as_root", "the image's user is root", "set runAsUser"),
        ("no-exec", "start/no_executable", "no program /no/such/program", "name a program"),
        ("no-workdir", "start/no_executable", "no program train", "name a program"),
        ("no-perm", "start/not_executable", "/etc/passwd isn't executable", "through its interpreter"),
        ("crashloop", "process/crash_loop", "ends each time it is started", "see its output"),
        ("exit3", "process/exit_code", "exited with 3", "see the end of its output"),
        ("init", "process/exit_code", "init container prep exited with 4", "see the end"),
        ("oom", "process/oom_killed", "reached its memory limit of 32Mi, or", "raise --memory above 32Mi"),
        ("pod-deadline", "process/deadline_exceeded", "it ran longer than its timeout", "more time"),
    ],
)  # fmt: skip
def test_the_step_that_holds_it(
    name: str, cause: str, headline: str, remedy: str, recorded: Recorded
) -> None:
    step = cause.partition("/")[0]
    ladder = recorded(name)
    assert ladder.blocking is not None
    assert f"{ladder.blocking.step}/{ladder.blocking.cause}" == cause
    assert headline in ladder.blocking.headline
    assert remedy in str(ladder.blocking.remedies[0])
    first = ladder.lines()[0]
    assert first.split(" at ", 1)[1].startswith(f"{step}: ")
    states = {entry["step"]: entry["state"] for entry in ladder.to_json()}
    assert states[step] == "blocked"
    assert list(states.values()).count("blocked") == len({f.step for f in ladder.findings})


def blocking(ladder: Ladder) -> Finding:
    assert ladder.blocking is not None
    return ladder.blocking


def test_a_quota_names_who_uses_it_and_how_to_raise_it(recorded: Recorded) -> None:
    found = blocking(recorded("quota-gpu"))
    assert found.owner == Owner("ResourceQuota", "team", "xrec-q")
    assert found.evidence[0].startswith("used by run holder (2 GPUs, since 2026-11-23")
    assert found.remedies[1].command == (
        "kubectl patch resourcequota team -n xrec-q "
        """-p '{"spec":{"hard":{"requests.nvidia.com/gpu":"3"}}}'"""
    )
    assert found.remedies[1].to_json()["by"] == "operator"


def test_a_quota_speaks_for_itself_once_its_event_is_gone(recorded: Recorded) -> None:
    found = blocking(recorded("quota-gpu", events=()))
    assert (found.cause, found.headline) == ("quota", "quota team lets no more in: 2 of 2 GPUs used, needs 1")


def test_a_quota_that_has_room_again_only_needs_the_next_try(recorded: Recorded) -> None:
    quota = {
        "metadata": {"name": "team", "namespace": "xrec-q"},
        "spec": {},
        "status": {"hard": {"requests.nvidia.com/gpu": "2"}, "used": {"requests.nvidia.com/gpu": "0"}},
    }
    assert blocking(recorded("quota-gpu", quotas=(quota,))).cause == "quota_retry"


def test_a_quota_that_may_not_be_read_is_named_all_the_same(recorded: Recorded) -> None:
    found = blocking(recorded("quota-gpu", quotas=()))
    assert (found.headline, found.owner) == (
        "quota team is used up", Owner("ResourceQuota", "team", "xrec-q"),
    )  # fmt: skip


def test_each_rule_of_pod_security_is_a_line(recorded: Recorded) -> None:
    found = blocking(recorded("podsecurity"))
    assert found.owner == Owner("Namespace", "xrec-ps")
    assert [line.split(" ")[0] for line in found.evidence] == [
        "privileged", "allowPrivilegeEscalation", "unrestricted", "runAsNonRoot", "seccompProfile",
    ]  # fmt: skip


def test_a_policy_is_quoted(recorded: Recorded) -> None:
    found = blocking(recorded("policy"))
    assert found.owner == Owner("ValidatingAdmissionPolicy", "gpuyard-tenants")
    assert "only the value void is allowed" in found.evidence[0]


def test_pods_that_others_made_hold_gpus_by_the_name_of_what_made_them(recorded: Recorded) -> None:
    ladder = recorded("foreign", nodes="nodes-plugin-gone")
    found = blocking(ladder)
    assert (found.cause, found.owner) == ("busy", Owner("Deployment", "web", "xrec"))
    assert found.evidence[0] == "node node-b: 8 GPUs, 6 allotted, 2 free, needs 4"
    assert "held by deployment xrec/web (6 GPUs, since" in found.evidence[1]
    assert [str(r) for r in found.remedies] == [
        "ask for 2 GPUs instead of 4 (node node-b)",
        "stop deployment xrec/web (node node-b)",
    ]


def test_a_plugin_that_is_gone_is_the_blocker_and_not_the_numbers(recorded: Recorded) -> None:
    found = blocking(recorded("plugin-gone", nodes="nodes-plugin-gone"))
    assert (found.step, found.cause, found.owner) == ("devices", "unhealthy", Owner("Node", "node-a"))
    assert "none of the 8 GPUs of node node-a can be had: its device plugin is gone" in found.headline
    assert "node node-a: no agent of gpuyard runs there" in found.evidence
    assert "8 GPUs, 8 unhealthy, 1 allotted, 0 free, needs 2" in found.evidence[0]


@pytest.mark.parametrize(
    ("nodes", "why", "command"),
    [
        ("nodes-cordoned", "node node-a is cordoned", "kubectl uncordon node-a"),
        (
            "nodes-not-ready",
            "node node-b is not ready since 20",
            "kubectl describe node node-b",
        ),
    ],
)
def test_a_node_that_takes_nothing(nodes: str, why: str, command: str, recorded: Recorded) -> None:
    # 9 GPUs or a missing label would hold it anyway: what asks for nothing special waits for the node alone.
    pool = {"nodes-cordoned": "a", "nodes-not-ready": "b"}[nodes]
    ladder = recorded("plugin-gone", nodes=nodes, pod=_small(pool))
    found = blocking(ladder)
    assert (found.step, found.cause) == ("nodes", "node")
    assert why in found.headline and "taint" not in found.headline
    assert found.remedies[-1].command == command


def _small(pool: str) -> dict[str, Any]:
    toleration = {"key": "nvidia.com/gpu", "operator": "Exists"}
    spec: dict[str, Any] = {
        "nodeSelector": {"pool": pool},
        "tolerations": [toleration],
        "containers": [{"name": "main"}],
    }
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": ""}
    metadata = {"name": "p", "namespace": "xrec", "uid": "1"}
    return {"metadata": metadata, "spec": spec, "status": {"conditions": [condition]}}


def test_what_its_output_says_is_the_cause(recorded: Recorded) -> None:
    cause = Diagnosis(
        Cause("NoKernelImage"), "CUDA error: no kernel image", "built for other GPUs", "another"
    )
    ladder = recorded("exit3", causes=(cause,))
    found = blocking(ladder)
    assert (found.step, found.cause) == ("process", "NoKernelImage")
    assert found.headline == "exited with 3: built for other GPUs"
    assert (found.evidence, str(found.remedies[0])) == (
        ("its output says: CUDA error: no kernel image",), "another",
    )  # fmt: skip


def test_what_a_later_step_will_say_comes_last(recorded: Recorded) -> None:
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "nope"}}
    pod = _small("c")
    pod["spec"]["volumes"] = [claim]
    ladder = recorded("plugin-gone", pod=pod)
    assert [finding.step for finding in ladder.findings] == ["nodes", "volumes"]
    assert (
        ladder.lines()[-1] == "after that, volumes: there is no PersistentVolumeClaim nope in namespace xrec"
    )


def test_what_comes_after_a_missing_claim_is_said_too_and_no_more(recorded: Recorded) -> None:
    said = recorded("no-resource-claim")
    assert [str(f.cause) for f in said.findings] == ["no_resource_claim", "taints"]
    # The scheduler looks at no pod whose claims aren't there.
    assert [str(f.cause) for f in recorded("no-claim-template").findings] == ["no_resource_claim"]


def test_claims_that_may_not_be_listed_are_told_of(recorded: Recorded) -> None:
    tolerant = {"key": "nvidia.com/gpu", "operator": "Exists"}
    pod = objects_of("no-resource-claim").pod
    assert pod is not None
    pod = {**pod, "spec": {**pod["spec"], "tolerations": [tolerant]}}
    found = blocking(recorded("no-resource-claim", pod=pod, unreadable=frozenset({"resourceclaims"})))
    assert (found.cause, found.evidence) == (
        "scheduler", ("one of its ResourceClaims may be missing: you may not list them",),
    )  # fmt: skip


def test_a_near_name_of_a_claim_is_told(recorded: Recorded) -> None:
    claims = [{"metadata": {"name": "nopes", "namespace": "cases"}}]
    found = blocking(recorded("no-resource-claim", resource_claims=claims))
    assert str(found.remedies[0]) == "use nopes instead of nope"


def test_a_scheduler_that_has_placed_others_is_known(recorded: Recorded) -> None:
    other = {"metadata": {"name": "o"}, "spec": {"nodeName": "node-a", "schedulerName": "nope"}}
    found = blocking(recorded("no-scheduler", neighbours=[other]))
    assert "though one has placed other pods here" in found.headline
    assert [str(r) for r in found.remedies] == ["see that the scheduler nope runs (whoever runs the cluster)"]


def test_a_label_for_spreading_that_is_nearly_spelt_so(recorded: Recorded) -> None:
    labelled = [{"metadata": {"name": "node-a", "labels": {"racks": "1"}}}]
    found = blocking(recorded("spread-label", around=labelled))
    assert str(found.remedies[0]) == "use racks instead of rack"


def test_kueue_s_label_where_there_is_no_kueue(recorded: Recorded) -> None:
    found = blocking(recorded("no-kueue", has_kueue=False))
    assert (found.step, found.cause) == ("job", "no_kueue")
    assert found.headline.endswith("asks for Kueue's queue team, and Kueue isn't installed here")
    assert found.remedies[0].command.startswith("kubectl patch job kueue -n cases")


def test_a_run_on_a_node_that_went_away_may_go_on(recorded: Recorded) -> None:
    ladder = recorded("node-gone")
    assert ladder.blocking is None and ladder.threat is not None
    assert ladder.lines()[0] == (
        "it runs, but its node node-b is not ready since 2026-11-29 09:12:31 UTC: the kubelet fell silent"
    )
    assert "its pod is given up 300 s after the node fell silent" in str(ladder.threat.remedies[0])


def test_a_pod_whose_node_went_away_before_it_began_is_held(recorded: Recorded) -> None:
    pod = objects_of("node-gone").pod
    assert pod is not None
    found = blocking(recorded("node-gone", pod={**pod, "status": {"phase": "Pending"}}))
    assert (found.step, found.cause, found.owner) == ("nodes", "node", Owner("Node", "node-b"))


def test_what_keeps_a_pod_from_the_scheduler_s_queue_comes_before_the_arithmetic(recorded: Recorded) -> None:
    pod = objects_of("taint").pod
    assert pod is not None
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "NotReadyForScheduling",
        "message": "waiting for minCount pods from a gang to appear in scheduling queue",
    }
    found = blocking(recorded("taint", pod={**pod, "status": {"conditions": [condition]}}))
    assert found.headline == f"the scheduler doesn't look for a node: {condition['message']}"
