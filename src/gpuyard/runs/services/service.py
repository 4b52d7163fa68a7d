"""Finding services: a Deployment by its label, with its pods, its Service and what scales it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gpuyard import errors
from gpuyard.kube.names import is_label
from gpuyard.kube.objects import (
    AUTOSCALERS,
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    SCALED_OBJECTS,
    SERVICES,
    Manifest,
    Resource,
    controller_of,
    key_of,
    labels_of,
)
from gpuyard.kube.pods import is_terminal
from gpuyard.kube.wellknown import LABEL_RUN
from gpuyard.runs.run import deployments_of_services, simulated_nodes
from gpuyard.runs.target import Target
from gpuyard.workloads.serving.service_state import ServiceState, service_state


@dataclass(frozen=True)
class Service:
    """One service: its Deployment, its pods in the order of their creation, and its state.

    Attributes:
        autoscaler: the HorizontalPodAutoscaler, KEDA's own too; None where the number is fixed, or where the
            user may not see it.
        front: the Service, which has its address; None where it isn't there.
    """

    name: str
    deployment: Manifest
    pods: Sequence[Manifest]
    state: ServiceState
    autoscaler: Manifest | None = None
    front: Manifest | None = None

    @property
    def namespace(self) -> str:
        """Where it is."""
        return key_of(self.deployment).namespace

    @property
    def alive(self) -> list[Manifest]:
        """Replicas that have processes, or are to have some."""
        return [pod for pod in self.pods if not is_terminal(pod)]


async def list_services(
    target: Target, deployments: Sequence[Manifest] | None = None, *, all_namespaces: bool = False
) -> list[Service]:
    """Every service of the namespace, in the order of their submits.

    Args:
        target: where.
        deployments: theirs, where they are known already.
        all_namespaces: of each.
    """
    namespace = None if all_namespaces else target.namespace
    if deployments is None:
        deployments = await deployments_of_services(target, all_namespaces=all_namespaces)
    if not deployments:
        return []
    pods, services, scalers, simulated = await asyncio.gather(
        target.api.list(PODS, namespace, label_selector=LABEL_RUN),
        _visible(target, SERVICES, namespace, LABEL_RUN),
        _scalers(target, namespace),
        simulated_nodes(target),
    )
    return [
        make_service(target, one, pods.items, services, scalers, simulated)
        for one in sorted(deployments, key=_creation)
    ]


async def find_service(target: Target, name: str) -> Service | None:
    """The service of exactly this name; None where there is none."""
    if not is_label(name):  # nor can it stand in a selector
        return None
    selector = f"{LABEL_RUN}={name}"
    deployments = await _visible(target, DEPLOYMENTS, target.namespace, selector)
    if not deployments:
        return None
    pods, services, scalers, simulated = await asyncio.gather(
        target.api.list(PODS, target.namespace, label_selector=selector),
        _visible(target, SERVICES, target.namespace, selector),
        _scalers(target, target.namespace),
        simulated_nodes(target),
    )
    return make_service(target, deployments[0], pods.items, services, scalers, simulated)


def make_service(
    target: Target,
    deployment: Manifest,
    pods: Sequence[Manifest],
    services: Sequence[Manifest] = (),
    scalers: Sequence[Manifest] = (),
    simulated: Collection[str] = (),
) -> Service:
    """The service of this Deployment; what belongs to others is left out."""
    key = key_of(deployment)
    name = labels_of(deployment).get(LABEL_RUN) or key.name
    own = [pod for pod in pods if _is_replica(pod, name, key.namespace)]
    own.sort(key=_creation)
    service = next((one for one in services if key_of(one) == key), None)
    own_scalers = [one for one in scalers if _scales(one, deployment)]
    state = service_state(
        deployment,
        own,
        service=service,
        bounds=next(map(_bounds, own_scalers), None),
        simulated_nodes=simulated,
        is_yard=target.is_yard,
    )
    autoscaler = next((one for one in own_scalers if "maxReplicas" in one["spec"]), None)
    return Service(name, deployment, own, state, autoscaler, service)


def _is_replica(pod: Manifest, name: str, namespace: str) -> bool:
    owner = controller_of(pod) or {}
    return (
        labels_of(pod).get(LABEL_RUN) == name
        and key_of(pod).namespace == namespace
        and owner.get("kind") == REPLICA_SETS.kind
    )


def _scales(autoscaler: Manifest, deployment: Manifest) -> bool:
    scaled: Mapping[str, str] = (autoscaler.get("spec") or {}).get("scaleTargetRef") or {}
    # A ScaledObject needs no kind: a Deployment is what it means.
    target = key_of(autoscaler).namespace, scaled.get("kind", DEPLOYMENTS.kind), scaled.get("name")
    key = key_of(deployment)
    return target == (key.namespace, DEPLOYMENTS.kind, key.name)


def _bounds(scaler: Manifest) -> tuple[int, int]:
    """Of a HorizontalPodAutoscaler or a ScaledObject, with the defaults of each."""
    spec = scaler["spec"]
    if "maxReplicas" in spec:
        return int(spec.get("minReplicas", 1)), int(spec["maxReplicas"])
    return int(spec.get("minReplicaCount", 0)), int(spec.get("maxReplicaCount", 100))


async def _scalers(target: Target, namespace: str | None) -> list[Manifest]:
    """What may scale services. KEDA's come first: the autoscaler that it makes never says 0."""
    if target.is_yard:
        return list(await _visible(target, AUTOSCALERS, namespace))
    kedas, autoscalers = await asyncio.gather(
        _visible(target, SCALED_OBJECTS, namespace), _visible(target, AUTOSCALERS, namespace)
    )
    return [*kedas, *autoscalers]


async def _visible(
    target: Target, resource: Resource, namespace: str | None, label_selector: str = ""
) -> Sequence[Manifest]:
    """What there is; nothing where the user may not look, or the API has no such kind."""
    try:
        return (await target.api.list(resource, namespace, label_selector=label_selector)).items
    except (errors.Forbidden, errors.NotFound):
        return ()


def _creation(manifest: Manifest) -> tuple[str, str]:
    return manifest["metadata"].get("creationTimestamp", ""), manifest["metadata"]["name"]
