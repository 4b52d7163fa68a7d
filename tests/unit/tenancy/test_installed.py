import copy
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from click import Context

from gpuyard.cli.commands.install import command
from gpuyard.installing.install import install_options
from gpuyard.kube.objects import Manifest, Resource
from gpuyard.tenancy.install import install, resource_of
from gpuyard.tenancy.installed import InstallState, install_command, install_state
from gpuyard.tenancy.options import TOLERATE_ALL, DriverAccess, InstallOptions

IMAGE = "registry.example.com/gpuyard/agent@sha256:" + "0" * 64
REAL = InstallOptions(IMAGE)
SIMULATED = InstallOptions(IMAGE, simulate="H100:8", taint=True)
EVERYTHING = InstallOptions(
    IMAGE,
    namespace="gpus",
    driver_access=DriverAccess.PRIVILEGED,
    mig_strategy="mixed",
    taint=True,
    policy=True,
    void=True,
    node_selector={"kubernetes.io/os": "linux", "gpu": "yes"},
    tolerations=(
        {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
        {"key": "dedicated", "operator": "Equal", "value": "ml"},
        {"key": "spot", "operator": "Exists"},
    ),
)
TOLERANT = InstallOptions(IMAGE, tolerations=(TOLERATE_ALL,))
WATCHED = InstallOptions(IMAGE, metrics=True, host_pid=True, gpu_backend="acme_gpus")
ALL = [REAL, SIMULATED, EVERYTHING, TOLERANT, WATCHED]


def listed(options: InstallOptions) -> list[tuple[Resource, Manifest]]:
    """As a cluster lists an install: items of a list don't carry their kind, and a server adds defaults."""
    found = []
    for manifest in copy.deepcopy(install(options)):
        resource = resource_of(manifest)
        del manifest["kind"], manifest["apiVersion"]
        manifest["metadata"]["uid"] = "1"
        found.append((resource, manifest))
    return found


Change = Callable[[dict[str, Any]], None]


def state(options: InstallOptions, *, without: str = "", change: Change | None = None) -> InstallState:
    there = {f"{kind.kind} {item['metadata']['name']}": (kind, item) for kind, item in listed(options)}
    there.pop(without, None)
    if change:
        change({name: item for name, (_, item) in there.items()})
    return install_state([*there.values()], confine=True)


@pytest.mark.parametrize("options", ALL)
def test_an_install_is_as_its_own_options_make_it(options: InstallOptions) -> None:
    assert state(options) == InstallState(options=options)


def test_nothing_lacks_nothing() -> None:
    assert install_state([], confine=True) == InstallState()


def test_what_is_missing_is_named() -> None:
    assert state(REAL, without="RuntimeClass gpuyard-nvidia").missing == ("RuntimeClass gpuyard-nvidia",)
    assert state(SIMULATED, without="ClusterRole gpuyard-viewer").missing == ("ClusterRole gpuyard-viewer",)
    lost = state(REAL, without="DaemonSet gpuyard-agent")
    assert (lost.missing, lost.options) == (("DaemonSet gpuyard-system/gpuyard-agent",), None)
    assert state(SIMULATED, without="DaemonSet gpuyard-agent").missing == lost.missing


def test_a_pod_monitor_is_missed_where_nothing_else_tells_of_the_metrics() -> None:
    monitored = InstallOptions(IMAGE, metrics=True, pod_monitor=True)
    assert state(monitored) == InstallState(options=monitored)
    lost = state(monitored, without="PodMonitor gpuyard-agent")
    assert lost.missing == ("PodMonitor gpuyard-system/gpuyard-agent",)
    assert install_command(monitored, "").endswith(" --metrics")


def test_on_an_old_cluster_the_labellers_policy_is_not_missed() -> None:
    found = [(kind, item) for kind, item in listed(REAL) if not kind.kind.startswith("Validating")]
    assert install_state(found, confine=False).missing == ()
    policy, pods = (
        "ValidatingAdmissionPolicy gpuyard-labeller",
        "ValidatingAdmissionPolicy gpuyard-labeller-pods",
    )
    assert install_state(found, confine=True).missing == (
        *(policy, policy.replace("Policy ", "PolicyBinding ")),
        *(pods, pods.replace("Policy ", "PolicyBinding ")),
    )


def without_a_verb(there: Any) -> None:
    there["ClusterRole gpuyard-labeller"]["rules"][0]["verbs"].remove("patch")


def without_a_rule(there: Any) -> None:
    del there["ClusterRole gpuyard-viewer"]["rules"][1]


def for_nobody(there: Any) -> None:
    del there["ClusterRoleBinding gpuyard-labeller"]["subjects"]


def only_watching(there: Any) -> None:
    there["ValidatingAdmissionPolicyBinding gpuyard-labeller"]["spec"]["validationActions"] = ["Audit"]


def without_pod_security(there: Any) -> None:
    there["Namespace gpus"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"


def without_a_mount(there: Any) -> None:
    containers = there["DaemonSet gpuyard-agent"]["spec"]["template"]["spec"]["containers"]
    containers[0]["volumeMounts"] = containers[0]["volumeMounts"][1:]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (without_a_verb, "ClusterRole gpuyard-labeller (rules[0].verbs)"),
        (without_a_rule, "ClusterRole gpuyard-viewer (rules)"),
        (for_nobody, "ClusterRoleBinding gpuyard-labeller (subjects)"),
        (only_watching, "ValidatingAdmissionPolicyBinding gpuyard-labeller (spec.validationActions[0])"),
        (without_pod_security, "Namespace gpus (metadata.labels.pod-security.kubernetes.io/enforce)"),
        (
            without_a_mount,
            "DaemonSet gpus/gpuyard-agent (spec.template.spec.containers[0].volumeMounts[0].name)",
        ),
    ],
)
def test_what_was_changed_is_named(change: Change, where: str) -> None:
    found = state(EVERYTHING, change=change)
    assert (found.missing, found.changed) == ((), (where,))


def test_what_people_add_to_the_agents_is_theirs() -> None:
    def add(there: Any) -> None:
        agent = there["DaemonSet gpuyard-agent"]
        agent["metadata"]["annotations"] = {"owner": "us"}
        pod = agent["spec"]["template"]["spec"]
        pod["imagePullSecrets"] = [{"name": "pull"}]
        pod["containers"][0]["env"].insert(0, {"name": "HTTPS_PROXY", "value": "x"})
        pod["volumes"].insert(0, {"name": "mine", "emptyDir": {}})

    assert state(EVERYTHING, change=add).changed == ()


@pytest.mark.parametrize("options", ALL)
def test_the_command_that_is_named_installs_the_same(options: InstallOptions) -> None:
    words = shlex.split(install_command(options, "gpu-cluster"))
    assert words[:4] == ["gpuyard", "install", "--context", "gpu-cluster"]
    with Context(command) as context:
        command.parse_args(context, words[4:])
        given = context.params
    names = ("image", "namespace", "simulate", "driver_access", "node_selector", "metrics", "taint")
    more = ("policy", "void", "mig_strategy", "toleration", "tolerate_all", "host_pid")
    assert (
        install_options(
            **{name: given[name] for name in (*names, *more)},
            gpu_config="",
            gpu_backend=given["gpu_backend"] or "",
        )
        == options
    )
