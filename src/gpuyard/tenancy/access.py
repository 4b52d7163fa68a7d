"""What a user may not do, which role of ours would allow it, and how an administrator gives it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from gpuyard.advice import advice
from gpuyard.tenancy.roles import FOR_THE_CLUSTER, PEOPLE

#: As Kubernetes says no: k8s.io/apiserver, pkg/endpoints/handlers/responsewriters/errors.go.
_DENIED = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>[\w-]+) resource "(?P<resource>[^"]+)" '
    r'in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]+)")?'
)
_ACCOUNT = "system:serviceaccount:"
_ANONYMOUS = "system:anonymous"


@dataclass(frozen=True)
class Action:
    """One verb on one resource.

    Attributes:
        resource: plural, with its subresource if any: `pods/log`.
        namespace: empty for all of them, and for what belongs to none.
    """

    verb: str
    group: str
    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        name, slash, subresource = self.resource.partition("/")
        what = f"{name}.{self.group}{slash}{subresource}" if self.group else self.resource
        where = f" in namespace {self.namespace}" if self.namespace else " in all namespaces"
        return f"{self.verb} {what}" + ("" if name in _CLUSTER_WIDE else where)


_CLUSTER_WIDE = frozenset(
    {"nodes", "namespaces", "priorityclasses", "storageclasses", "clusterroles", "clusterrolebindings"}
    | {"runtimeclasses", "validatingadmissionpolicies", "validatingadmissionpolicybindings"}
    | {"mutatingadmissionpolicies", "mutatingadmissionpolicybindings", "persistentvolumes"}
)


class RefusedBy(Enum):
    """What says no to a request with a 403."""

    ROLES = auto()
    QUOTA = auto()
    ENDING_NAMESPACE = auto()
    SOMETHING_ELSE = auto()


@dataclass(frozen=True)
class Refusal:
    """A 403 as its message tells it: the API server says it nowhere else.

    Attributes:
        user, action: who may not do what, where roles say no.
    """

    by: RefusedBy
    user: str = ""
    action: Action | None = None

    @classmethod
    def of(cls, message: str) -> Refusal:
        """Read from a message of the API server."""
        if found := _DENIED.search(message):
            action = Action(found["verb"], found["group"], found["resource"], found["namespace"] or "")
            return cls(RefusedBy.ROLES, found["user"], action)
        if "exceeded quota" in message:
            return cls(RefusedBy.QUOTA)
        if "is being terminated" in message:
            return cls(RefusedBy.ENDING_NAMESPACE)
        return cls(RefusedBy.SOMETHING_ELSE)

    @property
    def remedy(self) -> str:
        """The role that would allow it, or what to do about what else says no; empty when not known."""
        if self.action is not None:
            return remedy_for(self.user, [self.action])
        return advice(_REMEDIES.get(self.by, ""))


_REMEDIES = {
    RefusedBy.QUOTA: "remove what isn't needed any more (`gpuyard ps` lists runs), or have the quota raised",
    RefusedBy.ENDING_NAMESPACE: "wait until the namespace is gone and make it again, "
    "or name another with --namespace",
}


def role_for(actions: Iterable[Action]) -> str:
    """The least of our roles for people that allows all of these; empty when none does."""
    wanted = list(actions)
    for name, rules in PEOPLE.items():
        if name in FOR_THE_CLUSTER and any(action.namespace for action in wanted):
            continue
        if all(any(_allows(rule, action) for rule in rules()) for action in wanted):
            return name
    return ""


def _allows(rule: dict[str, list[str]], action: Action) -> bool:
    return (
        action.group in rule["apiGroups"]
        and action.resource in rule["resources"]
        and action.verb in rule["verbs"]
    )


def binding_command(role: str, user: str, namespace: str) -> str:
    """What gives a user the role in a namespace; without one, in the whole cluster.

    Args:
        role: a ClusterRole.
        user: as the API server calls it; `system:serviceaccount:NAMESPACE:NAME` for an account.
        namespace: empty for everywhere.
    """
    name = "-".join([role, *filter(None, re.split(r"[^a-z0-9]+", user.removeprefix(_ACCOUNT).lower()))])
    kind = "rolebinding" if namespace else "clusterrolebinding"
    subject = (
        f"--serviceaccount={user.removeprefix(_ACCOUNT)}" if user.startswith(_ACCOUNT) else f"--user={user}"
    )
    words = ["kubectl", "create", kind, name, f"--clusterrole={role}", subject]
    return shlex.join([*words, f"--namespace={namespace}"] if namespace else words)


def remedy_for(user: str, actions: Iterable[Action]) -> str:
    """How the user comes to be allowed all of these, which are in one namespace or in none."""
    wanted = list(actions)
    if user == _ANONYMOUS:
        return (
            "no credentials came with the request: has the kubeconfig's user any, and is `server` https://?"
        )
    role = role_for(wanted)
    if not role:
        return f"none of gpuyard's roles allows to {wanted[0]}: it takes an administrator, or a role of yours"
    namespace = next((action.namespace for action in wanted if action.namespace), "")
    if any(not action.namespace for action in wanted):
        namespace = ""
    return f"{role} allows it; an administrator gives it: {binding_command(role, user, namespace)}"
