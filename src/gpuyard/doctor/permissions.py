"""What the commands of a user need to be allowed, and what of it isn't."""

from __future__ import annotations

from collections.abc import Mapping

from gpuyard.doctor.check import Check, broken, ok, warning
from gpuyard.tenancy.access import Action, binding_command, role_for
from gpuyard.tenancy.names import CAPACITY_ROLE

_RUN = {
    ("batch", "jobs"): ("get", "list", "watch", "create", "patch", "delete"),
    ("", "pods"): ("get", "list", "watch", "patch"),
    ("", "pods/log"): ("get",),
    ("", "configmaps"): ("get", "create", "patch", "delete"),
    ("", "services"): ("get", "create", "patch", "delete"),
    ("", "events"): ("list",),
    ("", "resourcequotas"): ("list",),
}
_LOOK = {
    ("", "nodes"): ("get", "list"),
    ("", "pods"): ("list",),
    ("scheduling.k8s.io", "priorityclasses"): ("get", "list"),
}
#: What comes with it, since RBAC knows no fields.
_SEEN = "all that pods of every namespace say of themselves, env too, and none of their logs"


def needed(namespace: str) -> list[Action]:
    """In the namespace what runs need; in the whole cluster what `explain`, `nodes` and placement look at."""
    return [
        Action(verb, group, resource, where)
        for table, where in ((_RUN, namespace), (_LOOK, ""))
        for (group, resource), verbs in table.items()
        for verb in verbs
    ]


def judge(allowed: Mapping[Action, bool], user: str, namespace: str) -> Check:
    """Which of these verbs are missing, and which roles would give them.

    Args:
        allowed: each of `needed`.
        user: as the API server calls it.
        namespace: where runs go.
    """
    name = "permissions"
    missing = [action for action, yes in allowed.items() if not yes]
    here = [action for action in missing if action.namespace]
    anywhere = [action for action in missing if not action.namespace]
    if not missing:
        return ok(name, f"{user} may do in {namespace} what gpuyard's commands need")
    remedies = []
    for actions, where in ((here, namespace), (anywhere, "")):
        if actions:
            command = binding_command(role := role_for(actions), user, where)
            seen = f": {_SEEN}" if role == CAPACITY_ROLE else ""
            remedies.append(f"{role} allows it{seen}; an administrator gives it: {command}")
    remedy = "\n".join(remedies)
    if here:
        text = f"{user} may not {_grouped(here)} in namespace {namespace}"
        if anywhere:
            text += f", nor {_grouped(anywhere)} in the cluster"
        return broken(name, text, remedy)
    text = f"{user} may not {_grouped(anywhere)} in the cluster: `explain`, `nodes` and placement know less"
    return warning(name, text, remedy)


def _grouped(actions: list[Action]) -> str:
    """`create,patch jobs.batch; get pods/log`."""
    verbs: dict[str, list[str]] = {}
    for action in actions:
        what = f"{action.resource}.{action.group}" if action.group else action.resource
        verbs.setdefault(what, []).append(action.verb)
    return "; ".join(f"{','.join(names)} {what}" for what, names in verbs.items())
