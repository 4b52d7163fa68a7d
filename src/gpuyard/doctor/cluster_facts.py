"""What is asked of a cluster, all at once as far as one answer doesn't need another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

from gpuyard import errors
from gpuyard.client.access_review import may
from gpuyard.client.connection.kubeconfig import Connection, kubeconfig_files, load_connection
from gpuyard.client.rest import RestApi
from gpuyard.client.server_version import cluster_version
from gpuyard.doctor import permissions
from gpuyard.doctor.progress import Progress
from gpuyard.doctor.registry import RegistryFact, look_at_registry
from gpuyard.kube.conditions import condition_is_true
from gpuyard.kube.objects import (
    DAEMON_SETS,
    EVENTS,
    LIMIT_RANGES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUMES,
    PODS,
    RESOURCE_QUOTAS,
    SELF_REVIEWS,
    STORAGE_CLASSES,
    Manifest,
    Resource,
    key_of,
    labels_of,
)
from gpuyard.kube.wellknown import LABEL_PART_OF, LABEL_TENANT
from gpuyard.tenancy.access import Action
from gpuyard.tenancy.install import KINDS
from gpuyard.tenancy.installed import of_install
from gpuyard.tenancy.names import AGENT, PART_OF, SELECTOR

Result = TypeVar("Result")
#: Objects, or why they couldn't be read.
Items: TypeAlias = Sequence[Manifest] | errors.GpuyardError

_AT_ONCE = 6
_NOT_ASKED = errors.ConnectionFailed("nobody was asked")


@dataclass(frozen=True)
class ClusterFacts:
    """What was found out; an error in the place of what couldn't be.

    Attributes:
        user: as the API server calls it; empty when it doesn't say.
        tenant: the namespace's own object.
        allowed: of each action that commands need, whether the user may.
        installed: of each kind of an install, the objects that are there.
        warnings: events of that type where the agents are, if one of these isn't ready.
        tenants: the namespaces that carry the tenant label.
    """

    context: str
    connection: Connection | errors.GpuyardError
    namespace: str
    registry: RegistryFact
    version: tuple[int, int] | errors.GpuyardError = _NOT_ASKED
    user: str | errors.GpuyardError = _NOT_ASKED
    tenant: Manifest | errors.GpuyardError = _NOT_ASKED
    allowed: Mapping[Action, bool] | errors.GpuyardError = _NOT_ASKED
    installed: Mapping[Resource, Items] = field(default_factory=dict)
    nodes: Items = _NOT_ASKED
    pods: Items = _NOT_ASKED
    warnings: Items = ()
    storage_classes: Items = _NOT_ASKED
    tenants: Items = _NOT_ASKED
    persistent_volumes: Items = _NOT_ASKED
    quotas: Items = _NOT_ASKED
    limit_ranges: Items = _NOT_ASKED


async def look_at_cluster(
    context: str, namespace: str | None, asked: RegistryFact, environ: Mapping[str, str], progress: Progress
) -> ClusterFacts:
    """Asks everything, and never fails: what can't be had is an error among the facts.

    Args:
        context: of the kubeconfig.
        namespace: where runs go; None for the context's own.
        asked: the registry or image that the user named, if any.
        environ: says where the kubeconfig is, and what is trusted of registries.
        progress: told what is being asked.
    """
    connection = await progress.at("credentials", _load(kubeconfig_files(environ), context))
    if isinstance(connection, errors.GpuyardError):
        registry = await progress.at("registry", look_at_registry(asked, environ))
        return ClusterFacts(context, connection, namespace or "default", registry)
    namespace = namespace or connection.namespace
    try:
        api = RestApi(connection)
    except errors.GpuyardError as error:
        registry = await progress.at("registry", look_at_registry(asked, environ))
        return ClusterFacts(context, error, namespace, registry)
    async with api:
        return await _ask(api, ClusterFacts(context, connection, namespace, asked), environ, progress)


async def _load(files: Sequence[Path], context: str) -> Connection | errors.GpuyardError:
    # A credential plugin may take its time.
    return await or_error(asyncio.to_thread(load_connection, files, context))


async def _ask(
    api: RestApi, known: ClusterFacts, environ: Mapping[str, str], progress: Progress
) -> ClusterFacts:
    asker = _Asker(api, progress)
    version = await asker.ask("version", lambda: cluster_version(api))
    user: str | errors.GpuyardError = _NOT_ASKED
    if not isinstance(version, errors.ConnectionFailed):
        user = await asker.ask("user", lambda: _who(api))
    known = replace(known, version=version, user=user)
    if not isinstance(user, errors.Unauthorized | errors.ConnectionFailed):
        known = await _look(api, known, asker)
    asked = known.registry
    if not asked.asked:
        asked = asked.of_agents(_image(known.installed.get(DAEMON_SETS, ())))
    return replace(known, registry=await progress.at("registry", look_at_registry(asked, environ)))


async def _look(api: RestApi, known: ClusterFacts, asker: _Asker) -> ClusterFacts:
    """What the API tells those whom it knows."""
    namespace, actions = known.namespace, permissions.needed(known.namespace)
    async with asyncio.TaskGroup() as group:
        tenant = group.create_task(
            asker.ask("namespace", lambda: api.get(NAMESPACES, namespace)), name="namespace"
        )
        nodes, pods, classes, volumes = (
            group.create_task(asker.items(kind), name=kind.plural)
            for kind in (NODES, PODS, STORAGE_CLASSES, PERSISTENT_VOLUMES)
        )
        tenants = group.create_task(asker.items(NAMESPACES, selector=LABEL_TENANT), name="tenants")
        quotas, ranges = (
            group.create_task(asker.items(kind, namespace), name=kind.plural)
            for kind in (RESOURCE_QUOTAS, LIMIT_RANGES)
        )
        allowed = [
            group.create_task(asker.ask("permissions", partial(_may, api, action)), name=str(action))
            for action in actions
        ]
        parts = {
            kind: group.create_task(asker.items(kind, selector=SELECTOR), name=kind.plural) for kind in KINDS
        }
    listed = pods.result()
    installed = {kind: task.result() for kind, task in parts.items()}
    namespaces = installed[NAMESPACES]
    if not isinstance(namespaces, errors.GpuyardError):
        installed = {
            kind: items if isinstance(items, errors.GpuyardError) else of_install(items, namespaces)
            for kind, items in installed.items()
        }
    return replace(
        known,
        warnings=await _warnings(asker, agents_among(listed, installed)),
        tenant=tenant.result(),
        allowed=_all(actions, [task.result() for task in allowed]),
        installed=installed,
        nodes=nodes.result(),
        pods=listed,
        storage_classes=classes.result(),
        tenants=tenants.result(),
        persistent_volumes=volumes.result(),
        quotas=quotas.result(),
        limit_ranges=ranges.result(),
    )


def agents_among(pods: Items, installed: Mapping[Resource, Items]) -> Sequence[Manifest]:
    """The pods of the install; where its namespace can't be seen, all that are labelled so."""
    if isinstance(pods, errors.GpuyardError):
        return ()
    labelled = [pod for pod in pods if labels_of(pod).get(LABEL_PART_OF) == PART_OF]
    namespaces = installed.get(NAMESPACES, ())
    return labelled if isinstance(namespaces, errors.GpuyardError) else of_install(labelled, namespaces)


async def _warnings(asker: _Asker, agents: Sequence[Manifest]) -> Items:
    if all(condition_is_true(pod, "Ready") for pod in agents):
        return ()
    return await asker.items(EVENTS, key_of(agents[0]).namespace, fields="type=Warning")


class _Asker:
    """A few questions at a time, so that one doctor isn't the load that it finds."""

    def __init__(self, api: RestApi, progress: Progress) -> None:
        self._api = api
        self._progress = progress
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def ask(self, what: str, question: Callable[[], Awaitable[Result]]) -> Result | errors.GpuyardError:
        """The answer to a question that is begun when it is its turn, which it may never be."""
        async with self._turns:
            return await self._progress.at(what, or_error(question()))

    async def items(
        self, resource: Resource, namespace: str | None = None, selector: str = "", fields: str = ""
    ) -> Items:
        listed = await self.ask(
            resource.plural,
            lambda: self._api.list(resource, namespace, label_selector=selector, field_selector=fields),
        )
        return listed if isinstance(listed, errors.GpuyardError) else listed.items


async def or_error(answer: Awaitable[Result]) -> Result | errors.GpuyardError:
    """The answer, or the error that came in its place."""
    try:
        return await answer
    except errors.GpuyardError as error:
        return error


async def _who(api: RestApi) -> str:
    try:
        review = await api.create(SELF_REVIEWS, {"metadata": {}, **_typed(SELF_REVIEWS)})
    except (errors.NotFound, errors.Forbidden):
        return ""  # An older server, or one that doesn't tell.
    return str(review.get("status", {}).get("userInfo", {}).get("username", ""))


async def _may(api: RestApi, action: Action) -> bool:
    return await may(api, action.verb, action.group, action.resource, action.namespace)


def _typed(resource: Resource) -> dict[str, str]:
    return {"apiVersion": resource.api_version, "kind": resource.kind}


def _all(
    actions: Sequence[Action], answers: Sequence[bool | errors.GpuyardError]
) -> Mapping[Action, bool] | errors.GpuyardError:
    found: dict[Action, bool] = {}
    for action, answer in zip(actions, answers, strict=True):
        if isinstance(answer, errors.GpuyardError):
            return answer
        found[action] = answer
    return found


def _image(daemon_sets: Items) -> str:
    if isinstance(daemon_sets, errors.GpuyardError):
        return ""
    agents = [item for item in daemon_sets if key_of(item).name == AGENT]
    return str(agents[0]["spec"]["template"]["spec"]["containers"][0]["image"]) if agents else ""
