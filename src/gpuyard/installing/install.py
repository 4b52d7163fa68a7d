"""Bringing a cluster in line with an install, and waiting until its agents run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.plugin.config import AgentConfig, parse_config
from gpuyard.client.apply import ApplyResult, apply, delete, find, labelled
from gpuyard.client.rest import RestApi
from gpuyard.client.server_version import check_version, serves, version_text
from gpuyard.devices.simulated.simulation import parse_simulation
from gpuyard.gpus.resources import GPU_RESOURCE, SHARED_SUFFIX
from gpuyard.kube.names import is_label
from gpuyard.kube.nodes import EFFECTS, DaemonMisfit, parse_toleration
from gpuyard.kube.objects import (
    DAEMON_SETS,
    EVENTS,
    NAMESPACES,
    NODES,
    POD_MONITORS,
    PODS,
    Manifest,
    ObjectKey,
    Resource,
    key_of,
    labels_of,
)
from gpuyard.kube.pods import why_not_running
from gpuyard.tenancy.agent_nodes import kept_off, why_no_agent
from gpuyard.tenancy.foreign_plugins import foreign_plugins, served_by_no_pod
from gpuyard.tenancy.install import KINDS, install, resource_of, title
from gpuyard.tenancy.installed import of_install
from gpuyard.tenancy.names import AGENT, LABELS, SELECTOR
from gpuyard.tenancy.options import (
    ADMISSION_SINCE,
    TOLERATE_ALL,
    VOID_SINCE,
    DriverAccess,
    InstallOptions,
    scrubs_memory,
    shares_by_mps,
)

_LOOK_S = 0.5
#: Longer than a kubelet takes to tell that a plugin is gone: it writes its node's status every 10 s.
_GONE_S = 15.0
_DELETE_S = 30.0


def install_options(
    image: str,
    namespace: str | None,
    simulate: str | None,
    driver_access: str,
    mig_strategy: str,
    gpu_config: str,
    gpu_backend: str,
    node_selector: Sequence[str],
    toleration: Sequence[str],
    *,
    tolerate_all: bool,
    metrics: bool,
    host_pid: bool,
    taint: bool,
    policy: bool,
    void: bool,
) -> InstallOptions:
    """What the command line says.

    Raises:
        UsageError: a value isn't what it should be.
    """
    from gpuyard.images.reference import ImageReference

    ImageReference.parse(image)
    if policy and gpu_config:
        _check_shared_names(parse_config(json.loads(gpu_config)))
    if not simulate and driver_access != DriverAccess.PRIVILEGED:
        _check_rights(gpu_config)
    options = InstallOptions(
        image=image,
        simulate=str(parse_simulation(simulate)) if simulate else "",
        driver_access=DriverAccess(driver_access),
        mig_strategy=mig_strategy,
        metrics=metrics,
        gpu_config=gpu_config,
        # In the image it lies where Python looks.
        gpu_backend=Path(gpu_backend).stem if gpu_backend.endswith(".py") else gpu_backend,
        host_pid=host_pid,
        taint=taint,
        policy=policy,
        tolerations=(TOLERATE_ALL,) if tolerate_all else tuple(map(_toleration, toleration)),
        void=void,
    )
    if namespace:
        if not is_label(namespace):
            raise errors.UsageError(
                f"{namespace!r} can't be a namespace's name",
                remedy="use lower-case letters, digits and hyphens, at most 63",
            )
        options = replace(options, namespace=namespace)
    if node_selector:
        pairs = dict(_pair(text) for text in node_selector)
        options = replace(options, node_selector=dict(options.node_selector) | pairs)
    return options


def _check_rights(gpu_config: str) -> None:
    """What agents can't do without rights on their node."""
    if shares_by_mps(gpu_config):
        raise errors.UsageError(
            "sharing by MPS takes daemons of the driver's, which agents can't run without rights",
            remedy="add --driver-access privileged, or share by timeSlicing",
        )
    if scrubs_memory(gpu_config):
        raise errors.UsageError(
            "preStart: scrub takes the driver's libcuda, which agents don't see without rights: no container "
            "with a GPU would start",
            remedy="add --driver-access privileged, or set preStart to check or none",
        )


def _check_shared_names(config: AgentConfig) -> None:
    """Admission knows what is shared by its name alone."""
    for rule in config.serving.sharing:
        if not (rule.renamed or rule.resource).endswith(SHARED_SUFFIX):
            raise errors.UsageError(
                f"with --policy tenants are kept off shared GPUs, which {rule.renamed or rule.resource} "
                f"doesn't tell from others",
                remedy="set renameByDefault: true in --gpu-config, or a rename that ends with .shared",
            )


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise errors.UsageError(f"{text!r} is no label", remedy="write --node-selector NAME=VALUE")
    return name, value


def _toleration(text: str) -> dict[str, str]:
    found = parse_toleration(text)
    if found is None or found.get("effect", EFFECTS[0]) not in EFFECTS:
        raise errors.UsageError(
            f"{text!r} is no toleration",
            remedy="write --toleration KEY[=VALUE][:EFFECT], as kubectl writes taints: sku=gpu:NoSchedule",
        )
    return found


async def check_cluster(
    api: RestApi,
    options: InstallOptions,
    *,
    on_wait: Callable[[str], None],
    force: bool = False,
    gone_s: float = _GONE_S,
) -> InstallOptions:
    """The options as this cluster can have them: labellers aren't confined on an old one, and metrics are
    found by a PodMonitor where it knows that kind.

    Args:
        api: of the cluster.
        options: what is to be installed.
        on_wait: called with what is waited for.
        force: also where something else serves the GPUs.
        gone_s: how long nodes may go on counting the GPUs of a plugin that is gone.

    Raises:
        UsageError: the install doesn't fit this cluster; nothing has been sent then.
    """
    version = await check_version(api)
    if options.policy and version < ADMISSION_SINCE:
        raise errors.UsageError(
            f"this cluster is Kubernetes {version_text(version)}, and --policy needs "
            f"{version_text(ADMISSION_SINCE)}: there is no ValidatingAdmissionPolicy before",
            remedy="install without --policy, and keep tenants' pods in check by other means",
        )
    if options.void and version < VOID_SINCE:
        raise errors.UsageError(
            f"this cluster is Kubernetes {version_text(version)}, and --void needs "
            f"{version_text(VOID_SINCE)}: there is no MutatingAdmissionPolicy before",
            remedy="install without --void, and keep NVIDIA's runtime from being the default one on nodes",
        )
    await _check_namespaces(api, options.namespace)
    if not force:
        await _check_plugins(api, options, gone_s, on_wait)
    pod_monitor = options.metrics and await serves(api, POD_MONITORS)
    return replace(options, confine=version >= ADMISSION_SINCE, pod_monitor=pod_monitor)


async def _check_plugins(
    api: RestApi, options: InstallOptions, gone_s: float, on_wait: Callable[[str], None]
) -> None:
    """Raises UsageError when anything else serves GPUs on the nodes that are to have agents."""
    loop = asyncio.get_running_loop()
    due = loop.time() + gone_s
    while True:
        listed, pods = await asyncio.gather(api.list(NODES), api.list(PODS))
        nodes = [n for n in listed.items if labels_of(n).items() >= options.node_selector.items()]
        for plugin in foreign_plugins(nodes, pods.items):
            raise errors.UsageError(
                f"another device plugin serves {GPU_RESOURCE} already: {plugin.owner} on "
                f"{_some(plugin.nodes)}",
                remedy=f"remove it first: kubectl delete {plugin.owner}; or keep it, and gpuyard off its "
                "nodes with --node-selector",
            )
        unknown = served_by_no_pod(nodes, pods.items)
        if not unknown:
            return
        # A node counts a plugin's GPUs until its next look, also when the plugin has just gone.
        if loop.time() > due:
            raise errors.UsageError(
                f"something that is no pod serves {GPU_RESOURCE} already, on {_some(unknown)}",
                remedy="it may be a service of the node (nvidia-device-plugin): end it there, keep gpuyard "
                "off with --node-selector, or add --force if you know that nothing serves them",
            )
        on_wait(f"Looking whether anything serves the GPUs of {_some(unknown)} …")
        await asyncio.sleep(_LOOK_S)


def _some(nodes: Sequence[str]) -> str:
    return ", ".join(nodes[:5]) + (", …" if len(nodes) > 5 else "")


async def _check_namespaces(api: RestApi, name: str) -> None:
    for namespace in await labelled(api, NAMESPACES, SELECTOR):
        if (other := key_of(namespace).name) != name:
            raise errors.UsageError(
                f"gpuyard is installed in the namespace {other} already, and a cluster has it once",
                remedy=f"change that install with --namespace {other}, or `gpuyard uninstall` it first",
            )
    there = await find(api, NAMESPACES, ObjectKey("", name))
    if there is None:
        return
    if there["metadata"].get("deletionTimestamp"):
        raise errors.UsageError(
            f"the namespace {name} is being deleted", remedy="wait until it is gone, and install again"
        )
    if not labels_of(there).items() >= LABELS.items():
        label = ",".join(f"{key}={value}" for key, value in LABELS.items())
        raise errors.UsageError(
            f"the namespace {name} exists and isn't gpuyard's, which an uninstall would delete",
            remedy=f"name another with --namespace, or give it away: kubectl label namespace {name} {label}",
        )


@dataclass(frozen=True)
class ObjectChange:
    """One object that an install changed: `DaemonSet gpuyard-system/gpuyard-agent`, `created`."""

    what: str
    outcome: str


async def send(
    api: RestApi, options: InstallOptions, on_change: Callable[[ObjectChange], None]
) -> tuple[ObjectChange, ...]:
    """Applies every manifest, then takes away what an earlier install with other options made.

    Args:
        api: of the cluster.
        options: what is to be installed.
        on_change: called with each change once it is made.
    """
    changes: list[ObjectChange] = []

    def note(what: str, outcome: str) -> None:
        changes.append(ObjectChange(what, outcome))
        on_change(changes[-1])

    manifests = install(options)
    for manifest in manifests:
        outcome = await apply(api, resource_of(manifest), manifest)
        if outcome is not ApplyResult.UNCHANGED:
            note(title(manifest), str(outcome))
    wanted = {(manifest["kind"], key_of(manifest)) for manifest in manifests}
    for resource, stale in await installed(api):
        if (resource.kind, key_of(stale)) not in wanted:
            await delete(api, resource, stale, timeout_s=_DELETE_S)
            note(title({"kind": resource.kind, **stale}), "deleted")
    return tuple(changes)


async def installed(api: RestApi) -> list[tuple[Resource, Manifest]]:
    """Everything of an install that is on the cluster, in the order in which it is to be deleted."""
    found = await asyncio.gather(*(labelled(api, kind, SELECTOR) for kind in KINDS))
    listed = dict(zip(KINDS, found, strict=True))
    return [(kind, item) for kind in KINDS for item in of_install(listed[kind], listed[NAMESPACES])]


async def wait_for_agents(
    api: RestApi, namespace: str, timeout_s: float, on_wait: Callable[[str], None]
) -> Sequence[str]:
    """The nodes with an agent, once each runs as the DaemonSet says now: at least one.

    Raises:
        GpuyardError: some don't after that time, or there is no node for any; the message says which and why.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while (nodes := await _agents(api, namespace, on_wait)) is None:
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise errors.GpuyardError(
            f"gpuyard is installed, and after {timeout_s:.0f} s not all agents run: "
            f"{await _why_not(api, namespace)}",
            remedy=f"mend that and install again, or look closer: kubectl describe pods -n {namespace}",
        ) from None
    if not nodes:
        why, remedy = why_no_agent((await api.list(NODES)).items, await agent_pod(api, namespace))
        raise errors.GpuyardError(f"gpuyard is installed, with 0 agents, because {why}", remedy=remedy)
    return nodes


async def agent_pod(api: RestApi, namespace: str) -> Manifest:
    """`spec` of the pods that the DaemonSet makes."""
    pod: Manifest = (await api.get(DAEMON_SETS, AGENT, namespace))["spec"]["template"]["spec"]
    return pod


async def agents_kept_off(api: RestApi, namespace: str) -> Mapping[str, DaemonMisfit]:
    """The nodes that are selected and have none, for a taint; without those of the control plane."""
    return kept_off((await api.list(NODES)).items, await agent_pod(api, namespace))


async def _agents(api: RestApi, namespace: str, on_wait: Callable[[str], None]) -> Sequence[str] | None:
    agent = await api.get(DAEMON_SETS, AGENT, namespace)
    status = agent.get("status", {})
    wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    if status.get("observedGeneration") != agent["metadata"]["generation"]:
        return None
    on_wait(f"{ready} of {wanted} agents run")
    if status.get("updatedNumberScheduled", 0) != wanted or ready != wanted:
        return None
    if not wanted:
        return ()
    pods = (await api.list(PODS, namespace, label_selector=SELECTOR)).items
    return sorted(
        {pod["spec"].get("nodeName", "") for pod in pods if not pod["metadata"].get("deletionTimestamp")}
    )


async def _why_not(api: RestApi, namespace: str) -> str:
    events = (await api.list(EVENTS, namespace, field_selector="type=Warning")).items
    reasons = [
        f"{pod['spec'].get('nodeName') or 'no node'}: {reason}"
        for pod in (await api.list(PODS, namespace, label_selector=SELECTOR)).items
        if (reason := why_not_running(pod, events))
    ]
    return "; ".join(sorted(reasons)[:3]) or "their pods aren't there yet"
