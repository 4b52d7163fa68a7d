"""The links on a cluster's nodes: agents, other plugins, GPUs, drivers (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuyard.doctor.check import Check, CheckState, NodeFinding, broken, of_nodes, ok, skipped, warning
from gpuyard.doctor.cluster_facts import Items, agents_among
from gpuyard.doctor.injection import cdi_finding, judge_toolkit, runtime_text
from gpuyard.gpus.faults import driver_text, in_one_line, lacking, no_gpus_text, unoffered_text, why_none
from gpuyard.gpus.resources import GPU_RESOURCE, allocatable_gpus, capacity_gpus, has_simulated_gpus
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.nodes import daemon_misfit, not_ready_text
from gpuyard.kube.objects import (
    DAEMON_SETS,
    RUNTIME_CLASSES,
    Manifest,
    Resource,
    key_of,
    labels_of,
)
from gpuyard.kube.pods import why_not_running
from gpuyard.kube.wellknown import (
    LABEL_GPU_COUNT,
    LABEL_GPU_MODEL,
    LABEL_GPU_REPLICAS,
)
from gpuyard.tenancy.agent_nodes import why_no_agent
from gpuyard.tenancy.foreign_plugins import foreign_plugins, served_by_no_pod
from gpuyard.tenancy.names import AGENT, LABELLER_CONTAINER
from gpuyard.tenancy.node_marks import is_marked

_LABEL_DRIVER = "nvidia.com/cuda.driver-version.full"


#: As containerd says that NVIDIA's runtime, by which agents reach the driver, isn't set up.
_NO_HANDLER = 'no runtime for "nvidia" is configured'
_TOOLKIT = (
    "set NVIDIA's container toolkit up there (nvidia-ctk runtime configure), or install again with "
    "--driver-access privileged"
)
_NO_GPUS_REMEDY = "mend that on the node, or install with another --driver-access"


@dataclass(frozen=True)
class GpuNodes:
    """The nodes of a cluster that have GPUs, or should.

    Attributes:
        nodes: all of the cluster.
        pods: all of the cluster.
        agents: pods of the install, by node; where one takes over from another, the one that is ready.
        agent: the DaemonSet; None when there is none, or nobody may see it.
        warnings: events of that type where the agents are.
        placed: all pods of the install that are on nodes.
        runtime_classes: names of those that the install made; None when nobody may see them.
    """

    nodes: Sequence[Manifest]
    pods: Sequence[Manifest]
    agents: Mapping[str, Manifest]
    agent: Manifest | None
    runtime_classes: frozenset[str] | None
    warnings: Sequence[Manifest] = ()
    placed: Sequence[Manifest] = ()

    @classmethod
    def of(
        cls,
        nodes: Sequence[Manifest],
        pods: Sequence[Manifest],
        installed: Mapping[Resource, Items],
        warnings: Items = (),
    ) -> GpuNodes:
        """From what was listed."""
        sets, classes = installed.get(DAEMON_SETS, ()), installed.get(RUNTIME_CLASSES, ())
        found = [] if isinstance(sets, Exception) else [s for s in sets if key_of(s).name == AGENT]
        placed = [pod for pod in agents_among(pods, installed) if pod["spec"].get("nodeName")]
        placed.sort(key=lambda pod: condition_is_true(pod, "Ready"))
        agents = {pod["spec"]["nodeName"]: pod for pod in placed}
        names = None if isinstance(classes, Exception) else frozenset(key_of(c).name for c in classes)
        told = () if isinstance(warnings, Exception) else warnings
        return cls(nodes, pods, agents, found[0] if found else None, names, told, placed)

    @property
    def with_gpus(self) -> list[Manifest]:
        """Those that have some, or are labelled so; not those from which an agent was taken with its GPUs."""
        return [
            node
            for node in self.nodes
            if (capacity_gpus(node) or LABEL_GPU_MODEL in labels_of(node))
            and (allocatable_gpus(node) or not self._unwanted(node))
        ]

    def agents_run(self) -> Check:
        """Whether every node that is to have one has one that works; and no other node is marked."""
        name = "agents"
        left = self._left()
        if self.agent is None and not self.agents:
            return of_nodes(name, left, "") if left else skipped(name, "no agent is installed")
        status = (self.agent or {}).get("status", {})
        wanted = status.get("desiredNumberScheduled", len(self.agents))
        if not self.agents and not wanted and self.agent is not None:
            why, remedy = why_no_agent(self.nodes, self.agent["spec"]["template"]["spec"])
            return broken(name, f"there are 0 agents: {why}", f"{remedy}, and install again")
        lacking = wanted - len(self.agents)
        if lacking > 0:
            return broken(
                name,
                f"{lacking} of {wanted} agents have no pod",
                f"see why: kubectl describe daemonset {AGENT} -n {_namespace(self.agent)}",
            )
        by_name = {key_of(node).name: node for node in self.nodes}
        findings = [
            _agent(node, pod, by_name.get(node), self.warnings) for node, pod in sorted(self.agents.items())
        ]
        return of_nodes(
            name, [*findings, *self._waiting(), *left], f"{len(findings)} of {max(wanted, len(findings))} run"
        )

    def _waiting(self) -> list[NodeFinding]:
        """The agents that are to take over from one that is ready, and can't."""
        return [
            NodeFinding(
                node,
                CheckState.WARNING,
                f"its next agent can't take over: {why}",
                f"see more: kubectl describe pod {key_of(pod).name} -n {key_of(pod).namespace}",
            )
            for pod in self.placed
            if pod is not self.agents[node := pod["spec"]["nodeName"]]
            and not pod["metadata"].get("deletionTimestamp")
            and (why := why_not_running(pod, self.warnings))
        ]

    def _unwanted(self, node: Manifest) -> str:
        """Why a node without an agent is to have none; empty when it has one, is to, or nobody knows."""
        if key_of(node).name in self.agents or (self.agent is None and self.agents):
            return ""
        if self.agent is None:
            return "none is installed"
        misfit = daemon_misfit(node, self.agent["spec"]["template"]["spec"])
        return f"it {misfit}" if misfit else ""

    def _left(self) -> list[NodeFinding]:
        """The nodes with labels, a taint or reports of ours that are to have no agent."""
        again = "`gpuyard install` again, as it is installed," if self.agent else "`gpuyard uninstall`"
        return [
            NodeFinding(
                key_of(node).name,
                CheckState.WARNING,
                f"has gpuyard's labels or taint, and is to have no agent: {why}",
                f"{again} takes them away",
            )
            for node in self.nodes
            if is_marked(node) and (why := self._unwanted(node))
        ]

    def plugins(self) -> Check:
        """Whether anything but our agents serves GPUs: two plugins of one node take them from each other."""
        name = "plugins"
        foreign = foreign_plugins(self.nodes, self.pods)
        for plugin in foreign:
            shared = [node for node in plugin.nodes if node in self.agents]
            if shared:
                return broken(
                    name,
                    f"{plugin.owner} serves GPUs beside gpuyard's agent on {_some(shared)}",
                    f"remove one of the two: kubectl delete {plugin.owner}, or keep ours off those nodes "
                    "with --node-selector",
                )
        unknown = served_by_no_pod(self.nodes, self.pods)
        if unknown:
            return warning(
                name,
                f"GPUs of {_some(unknown)} are served by what is no pod: a service of the node, perhaps",
                "gpuyard isn't to be installed there: keep it off with --node-selector, or end that service",
            )
        if foreign:
            return ok(name, "; ".join(f"{p.owner} serves {_some(p.nodes)}" for p in foreign))
        return ok(name, "nothing but gpuyard's agents" if self.agents else "there is none")

    def gpus(self) -> Check:
        """Whether there are GPUs, all healthy and as many as the labels say."""
        nodes = self.with_gpus
        none = [(key_of(node).name, why) for node in self.nodes if (why := no_gpus_text(node))]
        if not nodes and none:
            more = f" ({len(none)} nodes)" if len(none) > 1 else ""
            return broken("gpus", f"no node has GPUs: {none[0][0]}: {none[0][1]}{more}", _NO_GPUS_REMEDY)
        if not nodes:
            return broken(
                "gpus",
                "no node has GPUs that pods can ask for",
                "install the agents (`gpuyard install`); with agents on the nodes, their logs say what is "
                f"missing: kubectl logs -n {_namespace(self.agent)} daemonset/{AGENT} -c plugin",
            )
        total = sum(map(allocatable_gpus, nodes))
        models = sorted({_model(node) for node in nodes})
        well = f"{total} on {len(nodes)} node{'s' if len(nodes) > 1 else ''}: {', '.join(models)}"
        found = of_nodes("gpus", [_gpus(node) for node in nodes], well)
        if total or found.outcome is CheckState.BROKEN:
            return found
        return broken("gpus", f"no GPU can be had: {found.message}", found.remedy)

    def drivers(self) -> Check:
        """Which driver each node has."""
        nodes = self.with_gpus
        if not nodes:
            return skipped("driver", "no node has GPUs")
        versions = sorted({_driver(node) for node in nodes if _driver(node)})
        return of_nodes("driver", [_driver_finding(node) for node in nodes], ", ".join(versions))

    def toolkit(self) -> Check:
        """How agents reach the driver, and whether NVIDIA's toolkit is one without known holes."""
        name = "toolkit"
        nodes = self.with_gpus
        if nodes and all(map(has_simulated_gpus, nodes)):
            return skipped(name, "simulated GPUs need none")
        pod = self.agent["spec"]["template"]["spec"] if self.agent else {}
        runtime_class = pod.get("runtimeClassName", "")
        if runtime_class and self.runtime_classes is not None and runtime_class not in self.runtime_classes:
            return broken(
                name,
                f"agents use the RuntimeClass {runtime_class}, which isn't there",
                "run `gpuyard install` again, with the options of the first time",
            )
        access = ""
        if runtime_class:
            access = f"agents reach the driver by NVIDIA's runtime ({runtime_class}); "
        elif any((c.get("securityContext") or {}).get("privileged") for c in pod.get("containers") or ()):
            access = "agents are privileged, and reach the driver themselves; "
        return judge_toolkit(name, access, self.pods)

    def cdi(self) -> Check:
        """Whether each node's runtime takes devices by CDI."""
        nodes = self.with_gpus
        if not nodes:
            return skipped("cdi", "no node has GPUs")
        runtimes = sorted({runtime_text(node) for node in nodes})
        return of_nodes("cdi", [cdi_finding(node) for node in nodes], f"{', '.join(runtimes)}: on by default")


def _agent(name: str, pod: Manifest, node: Manifest | None, warnings: Sequence[Manifest]) -> NodeFinding:
    namespace, pod_name = key_of(pod)
    if not condition_is_true(pod, "Ready"):
        why = why_not_running(pod, warnings) or "it isn't ready"
        if _NO_HANDLER in why:
            return NodeFinding(name, CheckState.BROKEN, why, _TOOLKIT)
        see = f"see more: kubectl describe pod {pod_name} -n {namespace}"
        return NodeFinding(name, CheckState.BROKEN, why, see)
    if node and capacity_gpus(node) and not is_marked(node) and LABEL_GPU_MODEL not in labels_of(node):
        return NodeFinding(
            name,
            CheckState.WARNING,
            "its labeller has written nothing on the node",
            f"its log says why: kubectl logs {pod_name} -n {namespace} -c {LABELLER_CONTAINER}",
        )
    return NodeFinding(name, CheckState.OK, "ready")


def _gpus(node: Manifest) -> NodeFinding:
    name = key_of(node).name
    total, usable, labelled = (
        capacity_gpus(node),
        allocatable_gpus(node),
        labels_of(node).get(LABEL_GPU_COUNT, ""),
    )
    if why := not_ready_text(node):
        return NodeFinding(
            name, CheckState.WARNING, f"the node is {why} ({usable} GPUs)", f"kubectl describe node {name}"
        )
    if not usable and (none := no_gpus_text(node)):
        return NodeFinding(name, CheckState.BROKEN, f"has no GPUs to give: {none}", _NO_GPUS_REMEDY)
    if not total:
        return NodeFinding(
            name,
            CheckState.BROKEN,
            "is labelled as if it had GPUs, and has none",
            "is its agent running, and registered? Labels stay when a plugin goes",
        )
    if usable < total:
        outcome = CheckState.WARNING if usable else CheckState.BROKEN
        which = f"{total - usable} of" if usable else "none of"
        state = "can't be had" if usable else "can be had"
        faults = lacking(node)
        why = in_one_line(faults) if usable else why_none(faults, labels_of(node), total)
        if faults and why == in_one_line(faults):
            remedy = faults[0].remedy(on_yard=False)
        elif usable:
            remedy = "the log of their device plugin on that node says which are unhealthy, and why"
        else:
            remedy = f"see whether a pod of the plugin runs there: kubectl get pods -A -o wide | grep {name}"
        return NodeFinding(
            name, outcome, f"{which} its {total} GPUs {state}" + (f": {why}" if why else ""), remedy
        )
    if unoffered := unoffered_text(node):
        return NodeFinding(
            name,
            CheckState.WARNING,
            f"{usable} × {_model(node)}; not offered: {unoffered}",
            "split them as the MIG strategy needs it (`gpuyard node mig apply`), or install with another",
        )
    whole = (node["status"].get("capacity") or {}).get(GPU_RESOURCE, "0")
    # Parts of GPUs, GPUs that are shared and other vendors' have labels of their own.
    is_plain = whole == str(total) and labels_of(node).get(LABEL_GPU_REPLICAS, "1") == "1"
    if is_plain and labelled.isdecimal() and int(labelled) != total:
        return NodeFinding(
            name,
            CheckState.WARNING,
            f"has {total} GPUs, and its label {LABEL_GPU_COUNT} says {labelled}",
            "the labeller mends its label within a minute; another's label is its owner's to mend",
        )
    if node["spec"].get("unschedulable"):
        return NodeFinding(name, CheckState.WARNING, "is cordoned", f"kubectl uncordon {name}")
    return NodeFinding(name, CheckState.OK, f"{usable} × {_model(node)}")


def _driver_finding(node: Manifest) -> NodeFinding:
    name, driver = key_of(node).name, _driver(node)
    if why := driver_text(node):
        remedy = "running pods keep their GPUs; before you reboot it: kubectl drain " + name
        return NodeFinding(name, CheckState.WARNING, why, remedy)
    if driver:
        return NodeFinding(name, CheckState.OK, driver)
    return NodeFinding(
        name,
        CheckState.WARNING,
        f"nobody says which driver it has (label {_LABEL_DRIVER})",
        "gpuyard's agent, or NVIDIA's GPU feature discovery, sets it; images aren't checked without",
    )


def _driver(node: Manifest) -> str:
    driver = labels_of(node).get(_LABEL_DRIVER, "")
    return f"{driver} (simulated)" if driver and has_simulated_gpus(node) else driver


def _model(node: Manifest) -> str:
    return labels_of(node).get(LABEL_GPU_MODEL, "GPU") + (" (simulated)" if has_simulated_gpus(node) else "")


def _namespace(agent: Manifest | None) -> str:
    return key_of(agent).namespace if agent else "gpuyard-system"


def _some(nodes: Sequence[str]) -> str:
    return ", ".join(nodes[:3]) + (", …" if len(nodes) > 3 else "")
