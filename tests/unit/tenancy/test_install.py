from dataclasses import replace
from typing import Any

import pytest

from gpuyard.kube.objects import key_of, labels_of
from gpuyard.tenancy.daemonset import options_of
from gpuyard.tenancy.install import KINDS, install, resource_of
from gpuyard.tenancy.names import LABELS
from gpuyard.tenancy.options import TOLERATE_ALL, DriverAccess, InstallOptions

IMAGE = "registry.example.com/gpuyard/agent:v1"
SIMULATED = InstallOptions(IMAGE, simulate="H100:8")
REAL = InstallOptions(IMAGE)
PRIVILEGED = InstallOptions(IMAGE, driver_access=DriverAccess.PRIVILEGED)
EVERYTHING = InstallOptions(IMAGE, namespace="gpus", metrics=True, taint=True, policy=True, void=True)
OPERATED = replace(SIMULATED, namespace="gpus", metrics=True, pod_monitor=True)
ALL = [SIMULATED, REAL, PRIVILEGED, EVERYTHING, OPERATED]


def pod(options: InstallOptions) -> dict[str, Any]:
    spec: dict[str, Any] = install(options)[-1]["spec"]["template"]["spec"]
    return spec


def container(options: InstallOptions, name: str) -> dict[str, Any]:
    return next(c for c in pod(options)["containers"] if c["name"] == name)


def env(options: InstallOptions, name: str = "plugin") -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container(options, name)["env"]}


@pytest.mark.parametrize("options", ALL)
def test_everything_is_found_again(options: InstallOptions) -> None:
    manifests = install(options)
    assert all(labels_of(manifest).items() >= LABELS.items() for manifest in manifests)
    assert {resource_of(manifest) for manifest in manifests} <= set(KINDS)
    assert len({(manifest["kind"], key_of(manifest)) for manifest in manifests}) == len(manifests)
    assert "@" not in str(manifests).replace("@sha256", "")


@pytest.mark.parametrize("options", ALL)
def test_namespaced_objects_are_in_the_namespace(options: InstallOptions) -> None:
    for manifest in install(options):
        expected = options.namespace if resource_of(manifest).namespaced else ""
        assert key_of(manifest).namespace == expected


def test_the_namespace_lets_the_agent_in() -> None:
    namespace = install(EVERYTHING)[0]
    assert key_of(namespace).name == "gpus"
    assert labels_of(namespace)["pod-security.kubernetes.io/enforce"] == "privileged"


@pytest.mark.parametrize("options", [SIMULATED, REAL])
def test_the_plugin_is_root_without_rights(options: InstallOptions) -> None:
    assert container(options, "plugin")["securityContext"] == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_privileged_is_chosen() -> None:
    assert container(PRIVILEGED, "plugin")["securityContext"]["privileged"] is True
    arguments = container(PRIVILEGED, "plugin")["args"]
    assert "--driver-root=/driver-root" in arguments and "--host-root=/driver-root" in arguments
    # What NVIDIA's runtime shows an agent is its container's own, and no path of the node.
    assert "--cdi-driver" in arguments and "--cdi-driver" not in container(REAL, "plugin")["args"]
    assert env(PRIVILEGED)["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "runtimeClassName" not in pod(PRIVILEGED)
    assert "privileged" not in container(PRIVILEGED, "labeller")["securityContext"]


def test_the_folders_of_the_node() -> None:
    def folders(options: InstallOptions) -> dict[str, str]:
        return {v["hostPath"]["path"]: v["name"] for v in pod(options)["volumes"] if "hostPath" in v}

    usual = {"/var/lib/kubelet/device-plugins", "/var/lib/kubelet/pod-resources", "/var/run/cdi"}
    assert folders(SIMULATED).keys() == folders(REAL).keys() == usual
    assert folders(PRIVILEGED).keys() == usual | {"/"}
    writable = {m["name"] for m in container(PRIVILEGED, "plugin")["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"device-plugins", "cdi", "shared"}
    assert {m["name"] for m in container(REAL, "labeller")["volumeMounts"]} == {"shared", "credentials"}


def test_credentials_are_the_labellers() -> None:
    assert pod(REAL)["automountServiceAccountToken"] is False
    assert "credentials" not in {m["name"] for m in container(REAL, "plugin")["volumeMounts"]}
    assert container(REAL, "labeller")["securityContext"]["runAsNonRoot"] is True


def test_the_runtime_class_comes_with_its_use() -> None:
    for options in ALL:
        made = [key_of(m).name for m in install(options) if m["kind"] == "RuntimeClass"]
        used = pod(options).get("runtimeClassName")
        assert made == ([used] if used else [])
    assert pod(REAL)["runtimeClassName"] == "gpuyard-nvidia"
    assert env(REAL)["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert env(REAL, "labeller")["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_simulated_gpus_need_nothing_of_a_driver() -> None:
    arguments = container(SIMULATED, "plugin")["args"]
    assert "--simulate=H100:8" in arguments
    # A file that all containers of the agent see: whoever may exec into it puts faults on them.
    assert "--simulated-health=/run/gpuyard/simulated.json" in arguments
    assert env(SIMULATED)["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "runtimeClassName" not in pod(SIMULATED)


def test_an_exporter_has_what_its_plugin_has_of_the_gpus() -> None:
    for options in ALL:
        names = [each["name"] for each in pod(options)["containers"]]
        assert ("exporter" in names) == options.metrics
        watched = replace(options, metrics=True)
        plugin, exporter = container(watched, "plugin"), container(watched, "exporter")
        assert exporter["securityContext"] == plugin["securityContext"]
        # Whose agent it is: only who serves the kubelet says that.
        assert exporter["env"] == [each for each in plugin["env"] if each["name"] != "NAMESPACE"]
        roots = ("--simulate", "--driver-root", "--host-root", "--node")
        for argument in (each for each in plugin["args"] if each.startswith(roots)):
            assert argument in exporter["args"]
        mounts = {each["name"]: each.get("readOnly", False) for each in exporter["volumeMounts"]}
        assert mounts.pop("shared") is False, "it writes what pods used"
        assert all(mounts.values())
        assert [each["containerPort"] for each in exporter["ports"]] == [9400]


@pytest.mark.parametrize("pod_monitor", [False, True])
def test_agents_with_metrics_are_found_by_a_prometheus_in_one_way(pod_monitor: bool) -> None:
    watched = replace(REAL, metrics=True, pod_monitor=pod_monitor)
    annotations = agent_annotations(watched)
    monitors = [m for m in install(watched) if m["kind"] == "PodMonitor"]
    assert annotations.get("prometheus.io/port") == (None if pod_monitor else "9400")
    assert len(monitors) == int(pod_monitor)
    for monitor in monitors:
        pods = monitor["spec"]["selector"]["matchLabels"]
        assert labels_of(install(watched)[-1]["spec"]["template"]).items() >= pods.items()
        [endpoint] = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] in {each["name"] for each in container(watched, "exporter")["ports"]}
    assert options_of(install(watched)[-1], InstallOptions("")).pod_monitor == pod_monitor


def test_without_metrics_there_is_nothing_to_find() -> None:
    bare = replace(REAL, pod_monitor=True)
    assert agent_annotations(bare) == {}
    assert "PodMonitor" not in {m["kind"] for m in install(bare)}


def agent_annotations(options: InstallOptions) -> dict[str, str]:
    found: dict[str, str] = install(options)[-1]["spec"]["template"]["metadata"].get("annotations", {})
    return found


def test_taint_and_policy_are_options() -> None:
    assert "--taint" in container(EVERYTHING, "labeller")["args"]
    assert "--taint" not in container(REAL, "labeller")["args"]
    tenants = {"gpuyard-tenants", *(f"gpuyard-tenants-{of}" for of in ("runtimes", "priorities", "services"))}
    labellers = {"gpuyard-labeller", "gpuyard-labeller-pods"}
    assert policies(EVERYTHING).keys() == {*labellers, *tenants}
    assert policies(REAL).keys() == labellers
    mutating = [m for m in install(EVERYTHING) if m["kind"].startswith("Mutating")]
    assert [(m["kind"], key_of(m).name) for m in mutating] == [
        ("MutatingAdmissionPolicy", "gpuyard-tenants-void"),
        ("MutatingAdmissionPolicyBinding", "gpuyard-tenants-void"),
    ]


def policies(options: InstallOptions) -> dict[str, Any]:
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    found = {kind: {key_of(m).name: m for m in install(options) if m["kind"] == kind} for kind in kinds}
    assert found[kinds[0]].keys() == found[kinds[1]].keys()
    return found[kinds[0]]


def test_the_right_to_patch_pods_comes_after_what_bounds_it_and_never_alone() -> None:
    names = [(m["kind"], key_of(m).name) for m in install(REAL)]
    bound = names.index(("ValidatingAdmissionPolicyBinding", "gpuyard-labeller-pods"))
    assert bound < names.index(("ClusterRoleBinding", "gpuyard-labeller-pods"))
    unconfined = install(replace(REAL, confine=False))
    may = [rule for m in unconfined if m["kind"] == "ClusterRole" for rule in m["rules"]]
    assert not [m for m in unconfined if key_of(m).name == "gpuyard-labeller-pods"]
    labeller = next(
        m for m in unconfined if key_of(m).name == "gpuyard-labeller" and m["kind"] == "ClusterRole"
    )
    assert may and not [rule for rule in labeller["rules"] if "pods" in rule["resources"]]


def test_labellers_are_confined_where_the_cluster_can() -> None:
    assert "system:serviceaccount:[^:]+:gpuyard-labeller" in str(policies(REAL)["gpuyard-labeller"])
    assert policies(replace(REAL, confine=False)) == {}


def test_agents_tolerate_their_own_taint_and_what_is_named() -> None:
    own = [{"key": f"{vendor}/gpu", "operator": "Exists"} for vendor in ("nvidia.com", "amd.com")]
    assert pod(REAL)["tolerations"] == own
    named = replace(REAL, tolerations=(TOLERATE_ALL,))
    assert pod(named)["tolerations"] == [*own, {"operator": "Exists"}]
    assert options_of(install(named)[-1], InstallOptions("")).tolerations == named.tolerations


def test_agents_are_given_their_configuration_as_one_argument() -> None:
    text = '{"version":"v1","sharing":{"timeSlicing":{"resources":[{"name":"gpu","replicas":4}]}}}'
    arguments = pod(replace(REAL, gpu_config=text))["containers"][0]["args"]
    assert arguments[arguments.index("--config") + 1] == text
    assert "--config" not in pod(REAL)["containers"][0]["args"]
    assert options_of(install(replace(REAL, gpu_config=text))[-1], InstallOptions("")).gpu_config == text


MPS = '{"version":"v1","sharing":{"mps":{"resources":[{"name":"gpu","replicas":2}]}}}'


def test_daemons_of_mps_meet_their_clients_in_folders_of_the_node() -> None:
    shared = replace(PRIVILEGED, gpu_config=MPS)
    plugin = container(shared, "plugin")
    arguments = {each.partition("=")[0]: each.partition("=")[2] for each in plugin["args"]}
    mounts = {each["name"]: each["mountPath"] for each in plugin["volumeMounts"]}
    volumes = {each["name"]: each for each in pod(shared)["volumes"]}
    # Clients are told of the pipes by the node's path, and have the shared memory as /dev/shm as well.
    assert arguments["--mps-dir"] == mounts["mps"] == volumes["mps"]["hostPath"]["path"]
    assert arguments["--mps-shm"] == volumes["mps-shm"]["hostPath"]["path"] != "/dev/shm"
    assert mounts["mps-shm"] == "/dev/shm"
    assert "limits" not in plugin["resources"]
    assert not {"hostPID", "hostIPC"} & pod(shared).keys()


SCRUB = '{"version":"v1","flags":{"plugin":{"preStart":"scrub"}}}'


def test_only_agents_that_scrub_memory_may_have_much_themselves() -> None:
    def limit(gpu_config: str) -> str:
        resources = container(replace(PRIVILEGED, gpu_config=gpu_config), "plugin")["resources"]
        return str(resources["limits"]["memory"])

    assert [limit(text) for text in ("", SCRUB.replace("scrub", "check"), SCRUB)] == [
        "128Mi",
        "128Mi",
        "2Gi",
    ]


def test_only_privileged_agents_that_share_by_mps_have_its_folders() -> None:
    for options in (PRIVILEGED, replace(SIMULATED, gpu_config=MPS), replace(PRIVILEGED, gpu_config="{}")):
        assert not [each for each in pod(options)["volumes"] if each["name"].startswith("mps")]
        assert not [each for each in container(options, "plugin")["args"] if each.startswith("--mps")]
        assert "limits" in container(options, "plugin")["resources"]


def test_agents_see_their_nodes_processes_by_choice_alone() -> None:
    assert "hostPID" not in pod(EVERYTHING)
    seeing = pod(replace(REAL, host_pid=True))
    assert seeing["hostPID"] is True
    # Kubernetes refuses both together.
    assert "shareProcessNamespace" not in seeing


def test_another_vendors_backend_is_loaded_by_whoever_looks_at_gpus() -> None:
    options = replace(REAL, gpu_backend="acme_gpus", metrics=True)
    for name in ("plugin", "exporter"):
        assert "--gpu-backend=acme_gpus" in container(options, name)["args"]
    assert not [each for each in container(options, "labeller")["args"] if "backend" in each]
    assert options_of(install(options)[-1], InstallOptions("")).gpu_backend == "acme_gpus"


def test_the_labeller_has_two_rights() -> None:
    manifests = {(m["kind"], key_of(m).name): m for m in install(EVERYTHING)}
    assert manifests["ClusterRole", "gpuyard-labeller"]["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "watch", "patch"]},
        {
            "apiGroups": ["apps"],
            "resources": ["daemonsets"],
            "verbs": ["get"],
            "resourceNames": ["gpuyard-agent"],
        },
    ]
    assert manifests["ClusterRoleBinding", "gpuyard-labeller"]["subjects"] == [
        {"kind": "ServiceAccount", "name": "gpuyard-labeller", "namespace": "gpus"}
    ]
