"""What the policies of `gpuyard install --policy` let tenants' pods do, asked of a real API server."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpuyard.tenancy.policies.tenants import tenant_policies
from gpuyard.tenancy.policies.void import void_policy
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.namespaces import ClusterError
from tests.waiting import until

PAST = "past the scheduler"
HOST = "hostIPC, hostPID and hostNetwork"
#: Names of classes that are there while these tests run, with their handlers and labels.
RUNTIMES: dict[str, tuple[str, dict[str, str]]] = {
    "nvidia": ("nvidia", {}),
    "fast": ("nvidia-container", {}),
    "plain": ("runc", {}),
    "kata-clh": ("kata-clh", {}),
    "vetted": ("of-our-own", {"gpuyard.io/gives-gpus": "false"}),
}
#: With their values.
PRIORITIES = {"test-low": -1000, "test-even": 0, "test-high": 1000, "test-higher": 2000}


def limits(name: str, amount: object = 1) -> dict[str, Any]:
    return {"resources": {"limits": {name: amount}}}


def env(name: str, **value: Any) -> dict[str, Any]:
    return {"env": [{"name": name, **value}]}


def secure(**context: Any) -> dict[str, Any]:
    return {"securityContext": context}


def adds(*capabilities: str) -> dict[str, Any]:
    return secure(capabilities={"add": list(capabilities)})


def volume(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **source}]}


def mounts(path: str) -> dict[str, Any]:
    return {"volumeMounts": [{"name": "v", "mountPath": path}]}


GPU = limits("nvidia.com/gpu")
VOID = env("NVIDIA_VISIBLE_DEVICES", value="void")
ALL = env("NVIDIA_VISIBLE_DEVICES", value="all")
SECRET = {"valueFrom": {"secretKeyRef": {"name": "a", "key": "b", "optional": True}}}
ENV_FROM = {"envFrom": [{"configMapRef": {"name": "a", "optional": True}}]}
EMPTY = volume(emptyDir={})
CLAIM = volume(persistentVolumeClaim={"claimName": "c"})
NVIDIA = {"runtimeClassName": "nvidia"}


@dataclass(frozen=True)
class Case:
    """What a container, its pod and its annotations are like, and what a refusal says; "" to be let in."""

    said: str = ""
    container: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


#: Of any container of a new pod.
CASES: dict[str, Case] = {
    "plain": Case(),
    "gpus": Case("", GPU),
    "shared-gpus": Case("shared GPUs isolate nothing", limits("nvidia.com/gpu.shared")),
    "shared-part": Case("shared GPUs isolate nothing", limits("nvidia.com/mig-1g.10gb.shared")),
    "part": Case("", limits("nvidia.com/mig-1g.10gb")),
    "void": Case("", VOID),
    "other-variable": Case("", env("NVIDIA_DRIVER_CAPABILITIES", value="all")),
    "all-gpus": Case(PAST, ALL),
    "all-beside-limit": Case(PAST, ALL | GPU),
    "from-a-secret": Case(PAST, env("NVIDIA_VISIBLE_DEVICES", **SECRET)),
    "empty": Case(PAST, env("NVIDIA_VISIBLE_DEVICES", value="")),
    "void-then-all": Case(PAST, {"env": [*VOID["env"], *ALL["env"]]}),
    "mig-config": Case(PAST, env("NVIDIA_MIG_CONFIG_DEVICES", value="all")),
    "mig-monitor": Case(PAST, env("NVIDIA_MIG_MONITOR_DEVICES", value="all")),
    "imex": Case(PAST, env("NVIDIA_IMEX_CHANNELS", value="0")),
    "nvswitch": Case(PAST, env("NVIDIA_NVSWITCH", value="enabled")),
    "amds": Case(PAST, env("AMD_VISIBLE_DEVICES", value="all")),
    "none-of-amds": Case("", env("AMD_VISIBLE_DEVICES", value="none")),
    "none-of-nvidias": Case(PAST, env("NVIDIA_VISIBLE_DEVICES", value="none")),
    "env-from": Case("", ENV_FROM),
    # What is mounted, and from where.
    "host-path": Case("hostPath volumes reach", {}, volume(hostPath={"path": "/dev"})),
    "flex-volume": Case("hostPath volumes reach", {}, volume(flexVolume={"driver": "a/b"})),
    "git-repo": Case("hostPath volumes reach", {}, volume(gitRepo={"repository": "r"})),
    "disk-of-the-node": Case("hostPath volumes reach", {}, volume(fc={"wwids": ["3600508b400105e21-part1"]})),
    "iscsi": Case(
        "hostPath volumes reach",
        {},
        volume(iscsi={"targetPortal": "10.0.0.1:3260", "iqn": "iqn.2001-04.com.example:a", "lun": 0}),
    ),
    "disk-of-a-cloud": Case("hostPath volumes reach", {}, volume(gcePersistentDisk={"pdName": "another's"})),
    "config": Case(
        "",
        {},
        {
            "volumes": [
                {"name": "a", "configMap": {"name": "a"}},
                {"name": "b", "secret": {"secretName": "a"}},
                {"name": "c", "projected": {"sources": [{"configMap": {"name": "a"}}]}},
                {
                    "name": "d",
                    "downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.name"}}]},
                },
                {"name": "e", "csi": {"driver": "a.example.com"}},
            ]
        },
    ),
    "nfs": Case("", mounts("/data"), volume(nfs={"server": "s", "path": "/"})),
    "claim": Case("", mounts("/data"), CLAIM),
    "image-volume": Case("", mounts("/models"), volume(image={"reference": "models:1"})),
    "shared-memory": Case("", mounts("/dev/shm"), volume(emptyDir={"medium": "Memory"})),
    "block-device": Case(
        "volumeDevices put", {"volumeDevices": [{"name": "v", "devicePath": "/dev/nvidia0"}]}, CLAIM
    ),
    "mounted-choice": Case("mounts under /var/run", mounts("/var/run/nvidia-container-devices/all"), EMPTY),
    "mounted-choice-by-dots": Case(
        "mounts under /var/run", mounts("/run/./x/../nvidia-container-devices/cdi"), EMPTY
    ),
    # What the container may do on its node.
    "privileged": Case("privileged containers", secure(privileged=True)),
    "host-process": Case(
        "privileged containers",
        {},
        secure(windowsOptions={"hostProcess": True}) | {"hostNetwork": True},
    ),
    "net-bind": Case("", adds("NET_BIND_SERVICE")),
    "rdma": Case("", adds("IPC_LOCK", "SYS_NICE")),
    "profiler": Case("", adds("SYS_PTRACE")),
    "by-long-name": Case("", adds("CAP_CHOWN")),
    **{
        name.lower().replace("_", "-"): Case("tenants may add only AUDIT_WRITE", adds(name))
        for name in ("ALL", "MKNOD", "CAP_SYS_ADMIN", "NET_ADMIN", "BPF", "SYS_MODULE", "DAC_READ_SEARCH")
    },
    "selinux": Case("seLinuxOptions takes", secure(seLinuxOptions={"type": "spc_t"})),
    "selinux-of-pod": Case("seLinuxOptions takes", {}, secure(seLinuxOptions={"type": "spc_t"})),
    "selinux-user": Case("seLinuxOptions takes", secure(seLinuxOptions={"user": "system_u"})),
    "selinux-level": Case("", secure(seLinuxOptions={"level": "s0:c1,c2", "type": "container_t"})),
    "proc-mount": Case("procMount other", secure(procMount="Unmasked"), {"hostUsers": False}),
    "own-users": Case("", {}, {"hostUsers": False}),
    "seccomp": Case("seccomp and AppArmor", secure(seccompProfile={"type": "Unconfined"})),
    "seccomp-of-pod": Case("seccomp and AppArmor", {}, secure(seccompProfile={"type": "Unconfined"})),
    "app-armor": Case("seccomp and AppArmor", secure(appArmorProfile={"type": "Unconfined"})),
    "app-armor-by-annotation": Case(
        "seccomp and AppArmor",
        annotations={"container.apparmor.security.beta.kubernetes.io/main": "unconfined"},
    ),
    "restricted": Case(
        "",
        secure(
            allowPrivilegeEscalation=False,
            runAsNonRoot=True,
            runAsUser=1000,
            capabilities={"drop": ["ALL"]},
            seccompProfile={"type": "RuntimeDefault"},
        ),
    ),
    "host-ipc": Case(HOST, {}, {"hostIPC": True}),
    "host-pid": Case(HOST, {}, {"hostPID": True}),
    "host-network": Case(HOST, {}, {"hostNetwork": True}),
    "node-name": Case("spec.nodeName goes round scheduler", {}, {"nodeName": "node-a"}),
    "node-selector": Case("", {}, {"nodeSelector": {"kubernetes.io/hostname": "node-a"}}),
    "tolerations": Case("", {}, {"tolerations": [{"operator": "Exists"}]}),
    # As Kueue holds pods back.
    "gated": Case("", {}, {"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}),
    **{
        f"annotated-{number}": Case("annotations under cdi.k8s.io/", annotations={name: "nvidia.com/gpu=0"})
        for number, name in enumerate(
            (
                "cdi.k8s.io/mine",
                "nvidia.cdi.k8s.io/a",
                "devices.nri.io/container.main",
                "cdi-devices.nri.io/pod",
                "cdi-devices.noderesource.dev/pod",
                "devices.gke.io/container.main",
                "io.kubernetes.cri-o.Devices",
            )
        )
    },
    "annotated": Case("", annotations={"resource-policy.nri.io/a": "b", "example.com/cdi.k8s.io": "c"}),
    # Which runtime runs it, by its handler.
    "runtime": Case("runtimeClassName nvidia may give", {}, NVIDIA),
    "runtime-by-another-name": Case(
        "kubectl label runtimeclass fast gpuyard.io/gives-gpus=false", {}, {"runtimeClassName": "fast"}
    ),
    "runtime-env-from": Case("runtimeClassName nvidia may give", ENV_FROM, NVIDIA),
    "runtime-no-gpu": Case("runtimeClassName nvidia may give", limits("nvidia.com/gpu", "0k"), NVIDIA),
    "runtime-network-card": Case("runtimeClassName nvidia may give", limits("nvidia.com/hostdev"), NVIDIA),
    "runtime-void": Case("", VOID | ENV_FROM, NVIDIA),
    "runtime-gpu": Case("", GPU, NVIDIA),
    "runtime-amds-gpu": Case("", limits("amd.com/gpu"), NVIDIA),
    "runtime-mig": Case("", limits("nvidia.com/mig-1g.10gb"), NVIDIA),
    "runtime-plain": Case("", {}, {"runtimeClassName": "plain"}),
    "runtime-kata": Case("", {}, {"runtimeClassName": "kata-clh"}),
    "runtime-vetted": Case("", {}, {"runtimeClassName": "vetted"}),
    # Whose GPUs it takes.
    "priority-low": Case("", {}, {"priorityClassName": "test-low"}),
    "priority-even": Case("", {}, {"priorityClassName": "test-even"}),
    "priority-high": Case("gpuyard.io/max-priority=1000", {}, {"priorityClassName": "test-high"}),
    "priority-of-a-node": Case(
        "may have 0 at most: use another", {}, {"priorityClassName": "system-node-critical"}
    ),
    "priority-of-a-cluster": Case(
        "may have 0 at most: use another", {}, {"priorityClassName": "system-cluster-critical"}
    ),
}
#: Of the first container and of what runs beside it: init containers, and sidecars.
WHERE = ("main", "init", "sidecar")


def pod(name: str, case: Case, where: str = "main") -> dict[str, Any]:
    """A pod in which the named container is as the case says, and the others are nothing special."""
    quiet = {"image": "busybox:1", **VOID}
    main = {"name": "main", **(quiet if where != "main" else {"image": "busybox:1", **case.container})}
    spec: dict[str, Any] = {"containers": [main], **case.spec}
    if where != "main":
        first = {"name": "first", "image": "busybox:1", **case.container}
        spec["initContainers"] = [{**first, **({"restartPolicy": "Always"} if where == "sidecar" else {})}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": case.annotations},
        "spec": spec,
    }


def priority_class(name: str, value: int) -> dict[str, Any]:
    head = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": value}
    return head | {"metadata": {"name": name}}


def runtime_class(name: str, handler: str, labels: dict[str, str]) -> dict[str, Any]:
    head = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": handler}
    return head | {"metadata": {"name": name, "labels": labels}}


@dataclass(frozen=True)
class Tenant:
    """A namespace with the tenant label, in which the policies hold; an install's own may be there too.

    Attributes:
        suffix: of the policies' names.
    """

    cluster: Cluster
    name: str
    suffix: str

    def refusals(self, *pods: dict[str, Any], namespace: str = "") -> dict[str, str]:
        """What the API server says against each pod, by its name; "" when it would take it."""
        many = {"apiVersion": "v1", "kind": "List", "items": list(pods)}
        command = ["kubectl", "create", f"-n={namespace or self.name}", "--dry-run=server", "-f", "-"]
        done = subprocess.run(
            command,
            input=json.dumps(many),
            env=self.cluster.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        said = dict.fromkeys(re.findall(r"^pod/(\S+) created", done.stdout, re.MULTILINE), "")
        for line in done.stderr.splitlines():
            if found := re.search(r'pods? "(\S+)" is (?:forbidden|invalid)', line, re.IGNORECASE):
                said[found[1]] = line
        assert said.keys() == {pod["metadata"]["name"] for pod in pods}, done
        return said

    def refusal(self, case: Case, namespace: str = "") -> str:
        return self.refusals(pod("probe", case), namespace=namespace)["probe"]


@pytest.fixture(scope="module")
def tenant(cluster: Cluster) -> Iterator[Tenant]:
    suffix = secrets.token_hex(4)
    made = Tenant(cluster, f"tenant-{suffix}", suffix)
    manifests: list[dict[str, Any]] = tenant_policies()
    for manifest in manifests:
        manifest["metadata"] = {"name": f"{manifest['metadata']['name']}-{suffix}"}
        if "policyName" in manifest["spec"]:
            manifest["spec"]["policyName"] += f"-{suffix}"
    for name, (handler, labels) in RUNTIMES.items():
        manifests.append(runtime_class(name, handler, labels))
    for name, value in PRIORITIES.items():
        manifests.append(priority_class(name, value))
    everything = {"apiVersion": "v1", "kind": "List", "items": manifests}
    cluster.kubectl("create", "namespace", made.name)
    try:
        cluster.kubectl("label", "namespace", made.name, "gpuyard.io/tenant=a")
        cluster.kubectl("wait", f"-n={made.name}", "--for=create", "serviceaccount/default", "--timeout=30s")
        cluster.kubectl("create", "-f", "-", stdin=everything)
        for case in ("host-pid", "runtime", "priority-high"):
            until(lambda case=case: CASES[case].said in made.refusal(CASES[case]), case)  # type: ignore[misc]
        yield made
    finally:
        cluster.kubectl("delete", "-f", "-", "--ignore-not-found", stdin=everything)
        cluster.kubectl("delete", "pods", f"-n={made.name}", "--all", "--force", "--grace-period=0")
        cluster.kubectl("delete", "namespace", made.name, "--wait=false")


@pytest.fixture(scope="module")
def refusals(tenant: Tenant) -> dict[str, str]:
    """What is said to every case, all asked at once."""
    return tenant.refusals(
        *(pod(f"{name}.{where}", case, where) for name, case in CASES.items() for where in WHERE)
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("where", WHERE)
def test_pods_of_tenants(refusals: dict[str, str], name: str, where: str) -> None:
    said, wanted = refusals[f"{name}.{where}"], CASES[name].said
    assert (wanted in said and "gpuyard: " in said) if wanted else said == ""


def test_services_of_tenants_take_no_other_s_traffic(tenant: Tenant) -> None:
    def said(**spec: Any) -> str:
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec}
        command = ["kubectl", "create", f"-n={tenant.name}", "--dry-run=server", "-f", "-"]
        environment = tenant.cluster.environment
        done = subprocess.run(
            command, input=json.dumps(service), env=environment, capture_output=True, text=True, check=False
        )
        return done.stderr

    taken = {"ports": [{"port": 443}], "externalIPs": ["203.0.113.1"]}
    until(lambda: "gpuyard: externalIPs" in said(**taken), "the policy holds")
    assert said(clusterIP="None", publishNotReadyAddresses=True, selector={"gpuyard.io/run": "a"}) == ""


def test_the_policies_are_without_type_errors(cluster: Cluster, tenant: Tenant) -> None:
    path = "-o=jsonpath={.status.typeChecking}"
    for of in ("", "-runtimes", "-priorities", "-services"):
        policy = f"gpuyard-tenants{of}-{tenant.suffix}"
        found = until(
            lambda policy=policy: cluster.kubectl("get", "validatingadmissionpolicy", policy, path),  # type: ignore[misc]
            f"{policy} is checked",
        )
        assert "expressionWarnings" not in found


def test_a_big_pod_costs_no_more_than_the_server_allows(tenant: Tenant) -> None:
    many = {"env": [{"name": f"SETTING_{number}", "value": "x"} for number in range(300)]}
    big = pod("big", Case("", many | VOID | GPU, NVIDIA | {"priorityClassName": "test-even"}))
    big["spec"]["containers"] = [
        big["spec"]["containers"][0] | {"name": f"c{number}"} | many for number in range(20)
    ]
    big["metadata"]["annotations"] = {f"example.com/{number}": "x" * 500 for number in range(200)}
    assert tenant.refusals(big) == {"big": ""}


def test_a_namespace_may_be_given_shared_gpus(cluster: Cluster, tenant: Tenant) -> None:
    label = ("label", "namespace", tenant.name, "--overwrite")
    cluster.kubectl(*label, "gpuyard.io/shared-gpus=true")
    until(lambda: tenant.refusal(CASES["shared-gpus"]) == "", "the label counts")
    cluster.kubectl(*label, "gpuyard.io/shared-gpus-")
    until(lambda: tenant.refusal(CASES["shared-gpus"]) != "", "it is gone")


def test_a_namespace_may_be_given_priorities(cluster: Cluster, tenant: Tenant) -> None:
    label = ("label", "namespace", tenant.name, "--overwrite")
    high, higher, system = (
        Case("", {}, {"priorityClassName": name})
        for name in ("test-high", "test-higher", "system-node-critical")
    )
    cluster.kubectl(*label, "gpuyard.io/max-priority=1000")
    until(lambda: tenant.refusal(high) == "", "the label counts")
    assert "may have 1000 at most" in tenant.refusal(higher)
    assert "may have 1000 at most" in tenant.refusal(system)
    cluster.kubectl(*label, "gpuyard.io/max-priority=9999999999")
    until(
        lambda: "may have 0 at most" in tenant.refusal(high), "what is no number of nine digits counts as 0"
    )
    cluster.kubectl(*label, "gpuyard.io/max-priority-")


def test_the_class_of_a_cluster_that_names_none_is_for_all(cluster: Cluster, tenant: Tenant) -> None:
    usual = priority_class(f"usual-{tenant.suffix}", 500) | {"globalDefault": True}
    cluster.kubectl("create", "-f", "-", stdin=usual)
    try:
        until(lambda: "usual" in priority_of(tenant), "pods get the class")
        assert tenant.refusal(Case()) == ""
    finally:
        cluster.kubectl("delete", "-f", "-", stdin=usual)
        until(lambda: "usual" not in priority_of(tenant), "pods get none")


def priority_of(tenant: Tenant) -> str:
    command = ("create", f"-n={tenant.name}", "--dry-run=server", "-o=jsonpath={.spec.priorityClassName}")
    return tenant.cluster.kubectl(*command, "-f", "-", stdin=pod("probe", Case()))


def test_a_runtime_class_that_comes_later_counts_at_once(cluster: Cluster, tenant: Tenant) -> None:
    later = runtime_class(f"later-{tenant.suffix}", "nvidia-cdi", {})
    cluster.kubectl("create", "-f", "-", stdin=later)
    try:
        case = Case("", {}, {"runtimeClassName": f"later-{tenant.suffix}"})
        until(
            lambda: f"runtimeClassName later-{tenant.suffix} may give" in tenant.refusal(case), "it is seen"
        )
    finally:
        cluster.kubectl("delete", "-f", "-", stdin=later)


@pytest.mark.parametrize("kind", ["Job", "Deployment"])
def test_pods_that_a_controller_makes_are_looked_at(cluster: Cluster, tenant: Tenant, kind: str) -> None:
    template = pod("x", Case("", {}, {"hostNetwork": True}))["spec"]
    labels = {"metadata": {"labels": {"app": "a"}}}
    spec: dict[str, Any] = {"template": {**labels, "spec": template | {"restartPolicy": "Never"}}}
    if kind == "Deployment":
        spec = {"template": {**labels, "spec": template}, "selector": {"matchLabels": {"app": "a"}}}
    version = "batch/v1" if kind == "Job" else "apps/v1"
    made = {"apiVersion": version, "kind": kind, "metadata": {"name": f"by-{kind.lower()}"}, "spec": spec}
    cluster.kubectl("create", f"-n={tenant.name}", "-f", "-", stdin=made)
    events = ("get", "events", f"-n={tenant.name}", "--field-selector=reason=FailedCreate", "-o=yaml")
    until(
        lambda: f"by-{kind.lower()}" in (said := cluster.kubectl(*events)) and HOST in said, "it is refused"
    )
    cluster.kubectl("delete", f"-n={tenant.name}", "-f", "-", stdin=made)


@pytest.fixture(scope="module")
def debugged(cluster: Cluster, tenant: Tenant) -> dict[str, str]:
    """Pods that containers are added to, by what is special about them."""
    pods = {
        "plain": Case("", VOID | mounts("/v"), EMPTY),
        "nvidia": Case("", VOID, NVIDIA),
        "own-users": Case("", VOID, {"hostUsers": False}),
    }
    for name, case in pods.items():
        cluster.kubectl("create", f"-n={tenant.name}", "-f", "-", stdin=pod(f"runs-{name}", case))
    return {name: f"runs-{name}" for name in pods}


#: Of `kubectl debug`: the pod, options, what the container is like besides, and what a refusal says.
DEBUGGERS: dict[str, tuple[str, tuple[str, ...], dict[str, Any], str]] = {
    "plain": ("plain", (), {}, ""),
    "general": ("plain", ("--profile=general",), {}, ""),
    "baseline": ("plain", ("--profile=baseline",), {}, ""),
    "restricted": ("plain", ("--profile=restricted",), {}, ""),
    "netadmin": ("plain", ("--profile=netadmin",), {}, "tenants may add only"),
    "sysadmin": ("plain", ("--profile=sysadmin",), {}, "privileged containers"),
    "all-gpus": ("plain", ("--env=NVIDIA_VISIBLE_DEVICES=all",), {}, PAST),
    "mounted-choice": (
        "plain",
        (),
        mounts("/var/run/nvidia-container-devices/all"),
        "mounts under /var/run",
    ),
    "selinux": ("plain", (), secure(seLinuxOptions={"type": "spc_t"}), "seLinuxOptions takes"),
    "proc-mount": ("own-users", (), secure(procMount="Unmasked"), "procMount other"),
    "seccomp": ("plain", (), secure(seccompProfile={"type": "Unconfined"}), "seccomp and AppArmor"),
    "runtime": ("nvidia", (), {}, "runtimeClassName nvidia may give"),
    "runtime-env-from": ("nvidia", (), ENV_FROM, "runtimeClassName nvidia may give"),
    "runtime-void": ("nvidia", ("--env=NVIDIA_VISIBLE_DEVICES=void",), {}, ""),
}


@pytest.mark.parametrize("name", DEBUGGERS)
def test_containers_that_are_added_to_a_pod(
    cluster: Cluster, tenant: Tenant, debugged: dict[str, str], tmp_path: Path, name: str
) -> None:
    runs, options, container, message = DEBUGGERS[name]
    custom = tmp_path / "container.json"
    custom.write_text(json.dumps(container))
    command = ("debug", f"-n={tenant.name}", debugged[runs], "--image=busybox:1", f"--container={name}")
    command += (*options, *((f"--custom={custom}",) if container else ()), "--", "true")
    if message:
        with pytest.raises(ClusterError, match=re.escape(message)):
            cluster.kubectl(*command)
    else:
        cluster.kubectl(*command)


def test_a_pod_that_was_there_before_can_change_and_go(
    cluster: Cluster, namespace: str, tenant: Tenant
) -> None:
    loud = pod("loud", Case("", ALL | secure(privileged=True), NVIDIA, {"cdi.k8s.io/mine": "x"}))
    cluster.kubectl("create", f"-n={namespace}", "-f", "-", stdin=loud)
    debug = ("debug", f"-n={namespace}", "loud", "--image=busybox:1")
    cluster.kubectl(*debug, "--container=before", "--env=NVIDIA_VISIBLE_DEVICES=all", "--", "true")
    cluster.kubectl("label", "namespace", namespace, "gpuyard.io/tenant=b")
    until(lambda: HOST in tenant.refusal(CASES["host-pid"], namespace), "the namespace is a tenant's")
    cluster.kubectl("label", f"-n={namespace}", "pod", "loud", "a=b")
    cluster.kubectl("set", "image", f"-n={namespace}", "pod/loud", "main=busybox:2")
    with pytest.raises(ClusterError, match=r"annotations under cdi\.k8s\.io"):
        cluster.kubectl("annotate", f"-n={namespace}", "pod", "loud", "cdi.k8s.io/other=x")
    # The one that was added before is no reason to refuse the next.
    cluster.kubectl(*debug, "--container=quiet", "--env=NVIDIA_VISIBLE_DEVICES=void", "--", "true")
    cluster.kubectl("delete", f"-n={namespace}", "pod", "loud", "--grace-period=0", "--force")


def test_other_namespaces_are_free(namespace: str, tenant: Tenant) -> None:
    for case in ("host-pid", "runtime", "priority-high", "net-admin"):
        assert tenant.refusal(CASES[case], namespace) == ""


def test_the_api_server_itself_keeps_claims_from_devices_of_others(cluster: Cluster, tenant: Tenant) -> None:
    """`adminAccess` needs a label of the namespace's, which is why no policy of ours looks at claims."""
    request = {"name": "r", "exactly": {"deviceClassName": "gpu.nvidia.com", "adminAccess": True}}
    spec: dict[str, Any] = {"devices": {"requests": [request]}}
    for kind in ("ResourceClaim", "ResourceClaimTemplate"):
        claim: dict[str, Any] = {"apiVersion": "resource.k8s.io/v1", "kind": kind}
        claim |= {"metadata": {"name": "a"}, "spec": spec if kind == "ResourceClaim" else {"spec": spec}}
        with pytest.raises(ClusterError, match="admin-access"):
            cluster.kubectl("create", f"-n={tenant.name}", "--dry-run=server", "-f", "-", stdin=claim)


@pytest.fixture(scope="module")
def void(cluster: Cluster, tenant: Tenant) -> Iterator[Tenant]:
    """The tenant, whose containers without GPUs are given the variable as well."""
    if "mutatingadmissionpolicies" not in cluster.kubectl(
        "get", "--raw=/apis/admissionregistration.k8s.io/v1"
    ):
        pytest.skip("MutatingAdmissionPolicy is there from Kubernetes 1.36 on")
    policy, binding = void_policy()
    for manifest in (policy, binding):
        manifest["metadata"] = {"name": f"void-{tenant.suffix}"}
    binding["spec"]["policyName"] = f"void-{tenant.suffix}"
    made = {"apiVersion": "v1", "kind": "List", "items": [policy, binding]}
    cluster.kubectl("create", "-f", "-", stdin=made)
    try:
        until(lambda: variables(tenant, pod("probe", Case())) == {"main": "void"}, "the policy holds")
        yield tenant
    finally:
        cluster.kubectl("delete", "-f", "-", stdin=made)
        until(lambda: variables(tenant, pod("probe", Case())) == {"main": None}, "it holds no more")


def variables(tenant: Tenant, made: dict[str, Any]) -> dict[str, str | None]:
    """NVIDIA_VISIBLE_DEVICES of each container of a pod, as the API server would take it."""
    command = ("create", f"-n={tenant.name}", "--dry-run=server", "-o=json", "-f", "-")
    return variables_of(json.loads(tenant.cluster.kubectl(*command, stdin=made)))


def variables_of(there: dict[str, Any]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in there["spec"].get(kind, ()):
            env = {entry["name"]: entry.get("value") for entry in container.get("env", ())}
            found[container["name"]] = env.get("NVIDIA_VISIBLE_DEVICES")
    return found


def test_containers_without_gpus_are_given_the_variable(void: Tenant) -> None:
    made = pod("many", Case(), "sidecar")
    made["spec"]["containers"] = [
        {"name": name, "image": "busybox:1", **container}
        for name, container in {
            "plain": {},
            "from": ENV_FROM,
            "others": env("A", value="b"),
            "twice": {"env": [{"name": "A", "value": "b"}, {"name": "A", "value": "c"}]},
            "said": VOID,
            "card": limits("nvidia.com/hostdev"),
            "none": limits("nvidia.com/gpu", 0),
            "gpu": GPU,
            "another-plugin": limits("nvidia.com/a100-gpu"),
            "mig": limits("nvidia.com/mig-1g.10gb") | ENV_FROM,
        }.items()
    ]
    given = dict.fromkeys(("plain", "from", "others", "twice", "said", "card", "none", "first"), "void")
    kept = dict.fromkeys(("gpu", "another-plugin", "mig"))
    assert variables(void, made) == given | kept


def test_what_was_said_is_not_overwritten(void: Tenant) -> None:
    for said in (ALL, env("NVIDIA_VISIBLE_DEVICES", **SECRET)):
        assert PAST in void.refusal(Case("", said))


def test_a_runtime_class_needs_no_word_then(void: Tenant) -> None:
    assert variables(void, pod("of-a-class", Case("", {}, NVIDIA), "init")) == {
        "main": "void",
        "first": "void",
    }


def test_containers_that_are_added_are_given_it_too(cluster: Cluster, void: Tenant) -> None:
    cluster.kubectl("create", f"-n={void.name}", "-f", "-", stdin=pod("grows", Case("", GPU, NVIDIA)))
    for name in ("first", "second"):
        debug = (
            "debug",
            f"-n={void.name}",
            "grows",
            "--image=busybox:1",
            f"--container={name}",
            "--",
            "true",
        )
        cluster.kubectl(*debug)
    there = json.loads(cluster.kubectl("get", f"-n={void.name}", "pod/grows", "-o=json"))
    assert variables_of(there) == {"main": None, "first": "void", "second": "void"}


def test_other_namespaces_are_given_nothing(cluster: Cluster, namespace: str, void: Tenant) -> None:
    elsewhere = Tenant(cluster, namespace, void.suffix)
    assert variables(elsewhere, pod("probe", Case())) == {"main": None}
