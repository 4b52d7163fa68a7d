"""Taking an install away: first the agents, then what they left on nodes, then the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gpuyard import errors
from gpuyard.agent.labelling import unmark_node
from gpuyard.client.apply import delete
from gpuyard.client.rest import RestApi
from gpuyard.gpus.cdi import FOLDER, SPEC_FILE
from gpuyard.gpus.resources import gpus_in
from gpuyard.installing.install import installed
from gpuyard.kube.objects import DAEMON_SETS, NAMESPACES, NODES, PODS, Manifest, Resource, key_of, labels_of
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.wellknown import LABEL_PART_OF
from gpuyard.scheduling.requests import PodRequest
from gpuyard.tenancy.install import title
from gpuyard.tenancy.names import PART_OF, SELECTOR
from gpuyard.tenancy.node_marks import is_marked

_AGENTS_S = 60.0
_OBJECT_S = 60.0
_SHOWN = 5


async def uninstall(api: RestApi, *, force: bool, say: Callable[[str], None]) -> None:
    """Removes all of it, or what an interrupted uninstall left.

    Args:
        api: of the cluster.
        force: also while pods with GPUs run, which go on, and where a node doesn't answer.
        say: told what is gone.

    Raises:
        UsageError: pods with GPUs run.
        GpuyardError: an agent doesn't end.
    """
    found, nodes = await asyncio.gather(installed(api), api.list(NODES))
    marked = [node for node in nodes.items if is_marked(node)]
    if not found and not marked:
        say("gpuyard isn't installed on this cluster.")
        return
    if not force:
        await _refuse_while_gpus_are_used(api, {key_of(node).name for node in marked})
    for resource, manifest in found:
        if resource == DAEMON_SETS:
            await _delete_agents(api, manifest, force=force, say=say)
    # The labeller is gone: nothing puts the marks back.
    for node in marked:
        await unmark_node(api, key_of(node).name)
        say(f"node {key_of(node).name}: labels and taint removed")
    for resource, manifest in found:
        if resource != DAEMON_SETS:
            await _delete(api, resource, manifest, say)


async def _refuse_while_gpus_are_used(api: RestApi, nodes: set[str]) -> None:
    users = []
    for pod in (await api.list(PODS)).items:
        request = PodRequest.of(pod)
        if request.node_name in nodes and gpus_in(request.resources) and not is_terminal(pod):
            users.append(str(request.key))
    if users:
        shown = ", ".join(sorted(users)[:_SHOWN]) + (", …" if len(users) > _SHOWN else "")
        count = "1 pod has" if len(users) == 1 else f"{len(users)} pods have"
        raise errors.UsageError(
            f"{count} GPUs now: {shown}",
            remedy="stop them first, or add --force: they go on, and nothing new gets a GPU",
        )


async def _delete_agents(api: RestApi, agents: Manifest, *, force: bool, say: Callable[[str], None]) -> None:
    """Deletes the DaemonSet. Each plugin takes its node's CDI spec with it when it is told to end."""
    name = title({"kind": DAEMON_SETS.kind, **agents})
    if await delete(api, DAEMON_SETS, agents, timeout_s=_AGENTS_S):
        say(f"{name} deleted")
        return
    left = await _agent_pods(api, agents)
    nodes = ", ".join(sorted(pod["spec"].get("nodeName", "") for pod in left))
    if not force:
        raise errors.GpuyardError(
            f"the agents on {nodes} don't end: those nodes may be down",
            remedy="bring the nodes back and run `gpuyard uninstall` again, or add --force",
        )
    for pod in left:
        await api.delete(PODS, key_of(pod).name, key_of(pod).namespace, grace_period_s=0)
    say(f"{name} deleted; on {nodes} a file may be left: {FOLDER}/{SPEC_FILE}")


async def _agent_pods(api: RestApi, agents: Manifest) -> Sequence[Manifest]:
    return (await api.list(PODS, key_of(agents).namespace, label_selector=SELECTOR)).items


async def _delete(api: RestApi, resource: Resource, manifest: Manifest, say: Callable[[str], None]) -> None:
    name = title({"kind": resource.kind, **manifest})
    if resource == NAMESPACES:
        pods = (await api.list(PODS, key_of(manifest).name)).items
        others = [str(key_of(pod)) for pod in pods if labels_of(pod).get(LABEL_PART_OF) != PART_OF]
        if others:
            await api.patch(
                NAMESPACES, key_of(manifest).name, {"metadata": {"labels": {LABEL_PART_OF: None}}}
            )
            say(f"{name} is kept: there are pods of others in it, such as {others[0]}")
            return
    if await delete(api, resource, manifest, timeout_s=_OBJECT_S):
        say(f"{name} deleted")
        return
    raise errors.GpuyardError(
        f"{name} is being deleted and isn't gone after {_OBJECT_S:.0f} s",
        remedy=f"see what holds it: kubectl describe {resource.plural} {key_of(manifest).name}",
    )
