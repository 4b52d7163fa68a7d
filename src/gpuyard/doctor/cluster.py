"""A cluster's chain, link by link: from the kubeconfig to what a namespace may use (pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gpuyard import __version__, errors
from gpuyard.client.connection.credentials import masked
from gpuyard.client.server_version import OLDEST, TOO_OLD_REMEDY, too_old, version_text
from gpuyard.doctor import permissions, quota, registry, tenants
from gpuyard.doctor.check import Check, Report, broken, ok, skipped, unseen, warning
from gpuyard.doctor.cluster_facts import ClusterFacts, agents_among
from gpuyard.doctor.gpu_nodes import GpuNodes
from gpuyard.gpus.resources import allocatable_gpus
from gpuyard.kube.objects import DAEMON_SETS, Manifest, Resource, key_of
from gpuyard.kube.storage import DEFAULT_CLASS, is_default_class
from gpuyard.tenancy.install import title
from gpuyard.tenancy.installed import install_command, install_state
from gpuyard.tenancy.options import ADMISSION_SINCE

#: Without what an install gives by these, an agent or a user is forbidden something.
_RIGHTS = ("ClusterRole", "ServiceAccount", "Namespace")
_CONTEXT, _API, _CREDENTIALS = "kubeconfig", "api", "credentials"


def judge(facts: ClusterFacts) -> Report:
    """Every check in the order of the chain; those that a broken one leaves nothing for are skipped."""
    first = [_kubeconfig(facts), _api(facts), _credentials(facts)]
    lost = _lost_at(facts)
    rest = [
        skipped(name, f"{lost} comes first") if lost and name != "registry" else check(facts)
        for name, check in _CHECKS.items()
    ]
    return Report("cluster", facts.context, (*first, *rest))


def _lost_at(facts: ClusterFacts) -> str:
    """The link where the way to the cluster ends; empty when questions were answered."""
    if isinstance(facts.connection, errors.GpuyardError):
        return _CONTEXT
    if isinstance(facts.version, errors.ConnectionFailed) or isinstance(facts.user, errors.ConnectionFailed):
        return _API
    return _CREDENTIALS if isinstance(facts.user, errors.Unauthorized) else ""


def _kubeconfig(facts: ClusterFacts) -> Check:
    if isinstance(facts.connection, errors.GpuyardError):
        return broken(_CONTEXT, facts.connection.message, facts.connection.remedy)
    origin = facts.connection.origin
    user = f" as {origin.user_text}" if origin else ""
    return ok(_CONTEXT, f"context {facts.context} goes to {masked(facts.connection.server)}{user}")


def _api(facts: ClusterFacts) -> Check:
    lost = _lost_at(facts)
    if lost == _CONTEXT:
        return skipped(_API, f"{lost} comes first")
    version = facts.version
    if isinstance(version, errors.Unauthorized | errors.Forbidden):
        # It is there, and tells strangers nothing.
        return ok(_API, "it answers, and tells its version only to whom it knows")
    if isinstance(version, errors.GpuyardError):
        return broken(_API, version.message, version.remedy)
    if lost == _API and isinstance(facts.user, errors.GpuyardError):
        return broken(_API, facts.user.message, facts.user.remedy)
    if version < OLDEST:
        return broken(_API, too_old(version), TOO_OLD_REMEDY)
    return ok(_API, f"Kubernetes {version_text(version)}")


def _credentials(facts: ClusterFacts) -> Check:
    lost = _lost_at(facts)
    if lost in (_CONTEXT, _API):
        return skipped(_CREDENTIALS, f"{lost} comes first")
    if isinstance(facts.user, errors.GpuyardError):
        return broken(_CREDENTIALS, facts.user.message, facts.user.remedy)
    if facts.user == "system:anonymous":
        return broken(
            _CREDENTIALS,
            "requests come without credentials, as system:anonymous",
            "give the kubeconfig's user a token, a client certificate or an exec plugin; `server` has to be https://",
        )
    return ok(_CREDENTIALS, f"the API knows you as {facts.user}" if facts.user else "they are taken")


def _namespace(facts: ClusterFacts) -> Check:
    name, tenant = "namespace", facts.tenant
    if isinstance(tenant, errors.NotFound):
        return broken(
            name,
            f"there is no namespace {facts.namespace}",
            f"make it (kubectl create namespace {facts.namespace}), or name another with --namespace",
        )
    if isinstance(tenant, errors.GpuyardError):
        return unseen(name, tenant)
    if tenant["metadata"].get("deletionTimestamp"):
        return broken(
            name,
            f"the namespace {facts.namespace} is being deleted",
            f"wait until it is gone: kubectl get namespace {facts.namespace} -o yaml says what holds it",
        )
    return ok(name, facts.namespace)


def _permissions(facts: ClusterFacts) -> Check:
    if isinstance(facts.allowed, errors.GpuyardError):
        return unseen("permissions", facts.allowed)
    user = facts.user if isinstance(facts.user, str) and facts.user else "you"
    return permissions.judge(facts.allowed, user, facts.namespace)


def _install(facts: ClusterFacts) -> Check:
    name = "install"
    seen = {kind: items for kind, items in facts.installed.items() if not isinstance(items, Exception)}
    hidden = {kind: items for kind, items in facts.installed.items() if isinstance(items, errors.Forbidden)}
    found = [(kind, item) for kind, items in seen.items() for item in items]
    if DAEMON_SETS in hidden:
        return _seen_in_part(facts, found) or unseen(name, hidden[DAEMON_SETS])
    if not found:
        if not isinstance(facts.nodes, Exception) and any(map(allocatable_gpus, facts.nodes)):
            return warning(
                name,
                "gpuyard isn't installed here; something else serves the GPUs",
                "runs go all the same; `--gpus MODEL:N` needs the label gpuyard.io/gpu-model on nodes",
            )
        return broken(name, "gpuyard isn't installed on this cluster", "see `gpuyard install --help`")
    confine = isinstance(facts.version, errors.GpuyardError) or facts.version >= ADMISSION_SINCE
    state = install_state(found, confine=confine)
    again = "run `gpuyard install` again, with the options of the first time"
    if state.options:
        again = f"run {install_command(state.options, facts.context)}"
    missing = [part for part in state.missing if part.split(" ")[0] not in {k.kind for k in hidden}]
    if missing:
        return broken(name, f"the install is half done: there is no {', no '.join(missing)}", again)
    if state.changed:
        message = f"this isn't as gpuyard {__version__} installs it: {', '.join(state.changed)}"
        needed = any(part.startswith(_RIGHTS) for part in state.changed)
        return broken(name, message, again) if needed else warning(name, message, again)
    namespace = next((key_of(item).name for kind, item in found if kind.kind == "Namespace"), "")
    part = f"; of {', '.join(kind.plural for kind in hidden)} you may see nothing" if hidden else ""
    return ok(name, (f"complete, in {namespace}" if namespace else "complete") + part)


def _seen_in_part(facts: ClusterFacts, found: Sequence[tuple[Resource, Manifest]]) -> Check | None:
    """What those see of an install who aren't to see all of it; None when that is nothing."""
    agents = [key_of(pod) for pod in agents_among(facts.pods, facts.installed)]
    if not agents and not found:
        return None
    seen = (
        f"its agents are in {agents[0].namespace}"
        if agents
        else f"{title({'kind': found[0][0].kind, **found[0][1]})} is there"
    )
    return ok("install", f"{seen}; the rest is for whoever runs the cluster")


def _of_nodes(look: Callable[[GpuNodes], Check], name: str) -> Callable[[ClusterFacts], Check]:
    def check(facts: ClusterFacts) -> Check:
        if isinstance(facts.nodes, errors.GpuyardError):
            return unseen(name, facts.nodes)
        if isinstance(facts.pods, errors.GpuyardError):
            return unseen(name, facts.pods)
        return look(GpuNodes.of(facts.nodes, facts.pods, facts.installed, facts.warnings))

    return check


def _storage(facts: ClusterFacts) -> Check:
    name, classes = "storage", facts.storage_classes
    if isinstance(classes, errors.GpuyardError):
        return unseen(name, classes)
    defaults = [key_of(item).name for item in classes if is_default_class(item)]
    if defaults:
        return ok(name, f"the default StorageClass is {', '.join(defaults)}")
    return warning(
        name,
        "there is no default StorageClass: a claim that names none waits for ever",
        _default_storage(sorted(key_of(item).name for item in classes)),
    )


def _default_storage(known: Sequence[str]) -> str:
    if not known:
        return "install a storage driver; or name no claims: runs without volumes don't need one"
    return (
        f"name one in the claim, or make one the default: kubectl annotate storageclass {known[0]} "
        f"{DEFAULT_CLASS}=true (there are: {', '.join(known)})"
    )


def _quota(facts: ClusterFacts) -> Check:
    if isinstance(facts.quotas, errors.GpuyardError):
        return unseen("quota", facts.quotas)
    ranges = () if isinstance(facts.limit_ranges, errors.GpuyardError) else facts.limit_ranges
    return quota.judge(facts.quotas, ranges, facts.namespace)


_CHECKS: dict[str, Callable[[ClusterFacts], Check]] = {
    "namespace": _namespace,
    "permissions": _permissions,
    "install": _install,
    "agents": _of_nodes(GpuNodes.agents_run, "agents"),
    "plugins": _of_nodes(GpuNodes.plugins, "plugins"),
    "gpus": _of_nodes(GpuNodes.gpus, "gpus"),
    "driver": _of_nodes(GpuNodes.drivers, "driver"),
    "toolkit": _of_nodes(GpuNodes.toolkit, "toolkit"),
    "cdi": _of_nodes(GpuNodes.cdi, "cdi"),
    "tenants": tenants.judge,
    "registry": lambda facts: registry.judge(facts.registry),
    "storage": _storage,
    "quota": _quota,
}
