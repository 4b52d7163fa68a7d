"""Manifests as they come off the wire, and the keys that name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from gpuyard.kube.wellknown import ANNOTATION_REVISION

#: Raw JSON of one object. Values that the API hands out are shared: copy before changing.
Manifest: TypeAlias = dict[str, Any]


class ObjectKey(NamedTuple):
    """Names one object of a resource; `namespace` is empty for cluster-scoped ones."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def with_kind(resource: Resource, manifest: Mapping[str, Any]) -> Manifest:
    """The object with its kind, which items of a list don't carry."""
    return {**manifest, "apiVersion": resource.api_version, "kind": resource.kind}


def key_of(manifest: Mapping[str, Any]) -> ObjectKey:
    """The key in `metadata`."""
    metadata = manifest["metadata"]
    return ObjectKey(metadata.get("namespace", ""), metadata["name"])


def uid_of(manifest: Mapping[str, Any]) -> str:
    """`metadata.uid`, empty before the server has set it."""
    return str(manifest["metadata"].get("uid", ""))


def labels_of(manifest: Mapping[str, Any]) -> Mapping[str, str]:
    """`metadata.labels`, empty when absent."""
    return manifest.get("metadata", {}).get("labels") or {}


def annotations_of(manifest: Mapping[str, Any]) -> Mapping[str, str]:
    """`metadata.annotations`, empty when absent."""
    return manifest.get("metadata", {}).get("annotations") or {}


def number_in(manifest: Mapping[str, Any], annotation: str) -> int | None:
    """A number in an annotation that isn't negative and fits into 64 bits; None for something else."""
    text = annotations_of(manifest).get(annotation, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def revision_of(manifest: Mapping[str, Any]) -> int:
    """The number of the change that a Deployment or a ReplicaSet is at; 0 where it has none."""
    return number_in(manifest, ANNOTATION_REVISION) or 0


def controller_of(manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The owner reference with `controller: true`, if any."""
    owners = manifest["metadata"].get("ownerReferences")
    for owner in owners if isinstance(owners, list) else ():
        if isinstance(owner, Mapping) and owner.get("controller"):
            found: Mapping[str, Any] = owner
            return found
    return None


@dataclass(frozen=True)
class Resource:
    """One kind of object that an API serves: its names and whether it lives in a namespace."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`v1` or `batch/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`pods` or `jobs.batch`, as Kubernetes writes it in messages."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """The URL path of the collection, the object or its subresource."""
        parts = ["api" if not self.group else f"apis/{self.group}", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/" + "/".join(parts)


def controller_uid(manifest: Mapping[str, Any] | None, resource: Resource) -> str:
    """The uid of the object of this kind that controls it, empty when none does."""
    owner = controller_of(manifest) if manifest is not None else None
    if owner is None or (owner["apiVersion"], owner["kind"]) != (resource.api_version, resource.kind):
        return ""
    return str(owner["uid"])


NODES = Resource("", "v1", "Node", "nodes", namespaced=False)
PODS = Resource("", "v1", "Pod", "pods")
NAMESPACES = Resource("", "v1", "Namespace", "namespaces", namespaced=False)
EVENTS = Resource("", "v1", "Event", "events")
CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps")
SECRETS = Resource("", "v1", "Secret", "secrets")
SERVICE_ACCOUNTS = Resource("", "v1", "ServiceAccount", "serviceaccounts")
SERVICES = Resource("", "v1", "Service", "services")
JOBS = Resource("batch", "v1", "Job", "jobs")
PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", namespaced=False)
LEASES = Resource("coordination.k8s.io", "v1", "Lease", "leases")
PERSISTENT_VOLUME_CLAIMS = Resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
PERSISTENT_VOLUMES = Resource("", "v1", "PersistentVolume", "persistentvolumes", namespaced=False)
DEPLOYMENTS = Resource("apps", "v1", "Deployment", "deployments")
REPLICA_SETS = Resource("apps", "v1", "ReplicaSet", "replicasets")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
DISRUPTION_BUDGETS = Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
AUTOSCALERS = Resource("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
#: KEDA's; it makes the autoscaler.
SCALED_OBJECTS = Resource("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects")
SCALES = Resource("autoscaling", "v1", "Scale", "scales")
DAEMON_SETS = Resource("apps", "v1", "DaemonSet", "daemonsets")
RUNTIME_CLASSES = Resource("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", namespaced=False)
#: The Prometheus operator's; not every cluster knows it.
POD_MONITORS = Resource("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors")
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDINGS = Resource(
    "rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)
STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "StorageClass", "storageclasses", namespaced=False)
RESOURCE_QUOTAS = Resource("", "v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGES = Resource("", "v1", "LimitRange", "limitranges")
#: Kueue's place for a Job in a queue, and the queue, in the versions that it serves, the newest first.
WORKLOADS = tuple(
    Resource("kueue.x-k8s.io", version, "Workload", "workloads") for version in ("v1beta2", "v1beta1")
)
LOCAL_QUEUES = tuple(
    Resource("kueue.x-k8s.io", version, "LocalQueue", "localqueues") for version in ("v1beta2", "v1beta1")
)
#: Kubernetes 1.37 serves it where an administrator has switched it on.
POD_GROUPS = Resource("scheduling.k8s.io", "v1beta1", "PodGroup", "podgroups")
RESOURCE_CLAIMS = Resource("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims")
RESOURCE_CLAIM_TEMPLATES = Resource(
    "resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates"
)


def pending_workloads(queue: str) -> tuple[Resource, ...]:
    """Who waits in one of Kueue's LocalQueues, as its visibility API has it, in versions like WORKLOADS."""
    plural = f"localqueues/{queue}/pendingworkloads"
    group, kind = "visibility.kueue.x-k8s.io", "PendingWorkloadsSummary"
    return tuple(Resource(group, version, kind, plural) for version in ("v1beta2", "v1beta1"))


#: Created to ask, and kept nowhere: may I, and who am I.
ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False
)
SELF_REVIEWS = Resource(
    "authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", namespaced=False
)
ADMISSION_POLICIES = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
    namespaced=False,
)
ADMISSION_BINDINGS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    namespaced=False,
)
MUTATION_POLICIES = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "MutatingAdmissionPolicy",
    "mutatingadmissionpolicies",
    namespaced=False,
)
MUTATION_BINDINGS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "MutatingAdmissionPolicyBinding",
    "mutatingadmissionpolicybindings",
    namespaced=False,
)
