"""Who may do what: the labeller, which changes nodes, and roles for people.

The people's roles are bound to nobody: a RoleBinding in a namespace gives them there. Nodes and
PriorityClasses belong to no namespace, and what others hold is in theirs: for `explain` and `nodes` there are
two roles that are bound in the whole cluster, and that read no logs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gpuyard.tenancy.names import AGENT, CAPACITY_ROLE, LABELLER, LABELS

_READ = ["get", "list", "watch"]
_RBAC = "rbac.authorization.k8s.io"
REPORTS_ROLE = f"{LABELLER}-reports"
#: What a service consists of besides its Service, by API group; KEDA's are there where KEDA is.
_SERVED = {
    "apps": ["deployments"],
    "policy": ["poddisruptionbudgets"],
    "autoscaling": ["horizontalpodautoscalers"],
    "keda.sh": ["scaledobjects"],
}


def roles() -> list[dict[str, Any]]:
    """The ClusterRoles, and the labeller's binding."""
    return [
        # To follow a node and to patch its labels, annotations and taints; and to see, when it is told to
        # end, whether its DaemonSet still wants the node.
        _role(
            LABELLER,
            [
                _rule([""], ["nodes"], ["get", "watch", "patch"]),
                {**_rule(["apps"], ["daemonsets"], ["get"]), "resourceNames": [AGENT]},
            ],
        ),
        _binding(LABELLER),
        *(_role(name, rules()) for name, rules in PEOPLE.items()),
    ]


def report_roles() -> list[dict[str, Any]]:
    """What lets the labeller tell faults by conditions and events, where a policy holds it to its node."""
    rules = [_rule([""], ["nodes/status"], ["patch"]), _rule([""], ["events"], ["create"])]
    return [_role(REPORTS_ROLE, rules), _binding(REPORTS_ROLE)]


def _binding(role: str) -> dict[str, Any]:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": role, "labels": dict(LABELS)},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": LABELLER, "namespace": "@namespace@"}],
    }


def _nodes() -> list[dict[str, Any]]:
    return [
        _rule([""], ["nodes", "persistentvolumes"], _READ),
        _rule(["storage.k8s.io"], ["storageclasses"], _READ),
        _rule(["scheduling.k8s.io"], ["priorityclasses"], _READ),
        _rule(["node.k8s.io"], ["runtimeclasses"], _READ),
    ]


def _capacity() -> list[dict[str, Any]]:
    # RBAC knows no fields: who may count what pods ask for sees the rest of their specs, too.
    return [*_nodes(), _rule([""], ["pods"], _READ)]


def _viewer() -> list[dict[str, Any]]:
    return [
        _rule([""], ["pods", "pods/log", "events", "configmaps", "services"], _READ),
        _rule([""], ["resourcequotas", "limitranges"], _READ),
        _rule([""], ["persistentvolumeclaims"], _READ),
        _rule(["batch"], ["jobs"], _READ),
        *(_rule([group], kinds, _READ) for group, kinds in _SERVED.items()),
        # `rollback` goes back to one of them; who is behind a service's address.
        _rule(["apps"], ["replicasets"], _READ),
        _rule(["discovery.k8s.io"], ["endpointslices"], _READ),
        # Bound in a namespace it gives that one, and no other.
        _rule([""], ["namespaces"], ["get"]),
        *_nodes(),
        # Devices that a pod asks for by a claim.
        _rule(["resource.k8s.io"], ["resourceclaims", "resourceclaimtemplates"], _READ),
        # Where Kueue is: why it doesn't admit a run, and its place in the queue.
        _rule(["kueue.x-k8s.io"], ["workloads", "localqueues"], _READ),
        # Where the scheduler starts pods together: why it doesn't yet.
        _rule(["scheduling.k8s.io"], ["podgroups"], _READ),
        _rule(["visibility.kueue.x-k8s.io"], ["localqueues/pendingworkloads"], ["get"]),
    ]


def _submitter() -> list[dict[str, Any]]:
    return [
        *_viewer(),
        _rule(["batch"], ["jobs"], ["create", "patch", "delete"]),
        *(_rule([group], kinds, ["create", "patch", "delete"]) for group, kinds in _SERVED.items()),
        # An update takes the place of all that a Deployment was.
        _rule(["apps"], ["deployments"], ["update"]),
        # `stop` ends a run's pods by a deadline.
        _rule([""], ["pods"], ["patch"]),
        _rule([""], ["configmaps", "services"], ["create", "patch", "delete"]),
        _rule([""], ["persistentvolumeclaims"], ["create", "delete"]),
        _rule(["scheduling.k8s.io"], ["podgroups"], ["create", "patch", "delete"]),
        # Who may run a program may look into one; WebSockets need `get`, and from 1.35 on `create`, too.
        _rule([""], ["pods/exec", "pods/attach", "pods/portforward"], ["get", "create"]),
        # What waits in a queue of Kueue is stopped there.
        _rule(["kueue.x-k8s.io"], ["workloads"], ["patch"]),
    ]


def _operator() -> list[dict[str, Any]]:
    return [
        *_submitter(),
        _rule([""], ["pods"], ["delete"]),
        # Bound in gpuyard's namespace: the agents' metrics, for `node` and `top`.
        _rule([""], ["pods/proxy"], ["get"]),
        _rule([""], ["nodes"], ["patch"]),
        _rule([""], ["namespaces"], _READ),
        _rule(["apps"], ["daemonsets"], _READ),
        # The rest of an install, for `status` and `doctor`.
        _rule([""], ["serviceaccounts"], _READ),
        _rule([_RBAC], ["clusterroles", "clusterrolebindings"], _READ),
        _rule(
            ["admissionregistration.k8s.io"],
            [
                *("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
                *("mutatingadmissionpolicies", "mutatingadmissionpolicybindings"),
            ],
            _READ,
        ),
        _rule(["monitoring.coreos.com"], ["podmonitors"], _READ),
    ]


OPERATOR = "gpuyard-operator"
#: The roles for people, each with more rights than the one before it.
PEOPLE: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "gpuyard-nodes": _nodes,
    CAPACITY_ROLE: _capacity,
    "gpuyard-viewer": _viewer,
    "gpuyard-submitter": _submitter,
    OPERATOR: _operator,
}


#: Those that are bound in the whole cluster.
FOR_THE_CLUSTER = frozenset({"gpuyard-nodes", CAPACITY_ROLE})


def _rule(groups: Iterable[str], resources: Iterable[str], verbs: Iterable[str]) -> dict[str, Any]:
    return {"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}


def _role(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name, "labels": dict(LABELS)},
        "rules": rules,
    }
