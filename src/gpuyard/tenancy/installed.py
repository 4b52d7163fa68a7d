"""What is on a cluster, compared with what an install of the same options makes (pure)."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpuyard.kube.nodes import format_taint
from gpuyard.kube.objects import DAEMON_SETS, NAMESPACES, RUNTIME_CLASSES, Manifest, Resource, key_of
from gpuyard.tenancy.daemonset import options_of
from gpuyard.tenancy.install import install, title
from gpuyard.tenancy.names import AGENT, TENANTS, TENANTS_VOID
from gpuyard.tenancy.options import TOLERATE_ALL, InstallOptions

#: People add to it on purpose: a secret for pulls, a variable, a toleration.
_MAY_HAVE_MORE = frozenset({DAEMON_SETS.kind})


@dataclass(frozen=True)
class InstallState:
    """How whole an install is.

    Attributes:
        missing: what a half-done one lacks, `Kind name`.
        changed: what isn't as an install makes it, and where: `ClusterRole gpuyard-viewer (rules[0].verbs)`.
        options: what it was installed with; None without a DaemonSet that says so.
    """

    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    options: InstallOptions | None = None


def of_install(items: Iterable[Manifest], namespaces: Iterable[Manifest]) -> list[Manifest]:
    """Without what has an install's labels in another's namespace, where anybody may write labels.

    Args:
        items: that have them.
        namespaces: that have them: only who runs the cluster may write those.
    """
    names = {"", *(key_of(namespace).name for namespace in namespaces)}
    return [item for item in items if key_of(item).namespace in names]


def install_state(found: Sequence[tuple[Resource, Manifest]], *, confine: bool) -> InstallState:
    """How whole what is there is; nothing is missing where there is nothing at all.

    Args:
        found: every object of an install that is there, with its resource.
        confine: whether this cluster can confine labellers.
    """
    if not found:
        return InstallState()
    there = {title({"kind": kind.kind, **item}): item for kind, item in found}
    agent = next((item for kind, item in found if kind == DAEMON_SETS and key_of(item).name == AGENT), None)
    policy, void = (any(key_of(item).name == name for _, item in found) for name in (TENANTS, TENANTS_VOID))
    options = InstallOptions("", policy=policy, void=void, confine=confine)
    names = [key_of(item).name for kind, item in found if kind == NAMESPACES]
    if agent:
        options = replace(options_of(agent, options), namespace=key_of(agent).namespace)
    elif names:
        options = replace(options, namespace=names[0])
    missing, changed = [], []
    for manifest in install(options):
        name, kind = title(manifest), manifest["kind"]
        if name in there and (agent or names):
            where = _difference(there[name], _content(manifest), kind in _MAY_HAVE_MORE)
            changed += [] if where is None else [f"{name} ({where.removeprefix('.')})"]
        # Without an agent nobody knows whether it was to have one.
        elif name not in there and (agent or kind != RUNTIME_CLASSES.kind):
            missing.append(name)
    return InstallState(tuple(missing), tuple(changed), options if agent else None)


def install_command(options: InstallOptions, context: str) -> str:
    """What installs with these options."""
    words = ["gpuyard", "install", *(["--context", context] if context else []), "--image", options.image]
    if options.namespace != InstallOptions("").namespace:
        words += ["--namespace", options.namespace]
    if options.simulate:
        words += ["--simulate", options.simulate]
    elif options.driver_access is not InstallOptions("").driver_access:
        words += ["--driver-access", options.driver_access]
    if options.mig_strategy != InstallOptions("").mig_strategy:
        words += ["--mig-strategy", options.mig_strategy]
    words += ["--gpu-config", "gpus.yaml"] if options.gpu_config else []
    words += ["--gpu-backend", options.gpu_backend] if options.gpu_backend else []
    for name, value in options.node_selector.items():
        if InstallOptions("").node_selector.get(name) != value:
            words += ["--node-selector", f"{name}={value}"]
    for toleration in options.tolerations:
        everything = toleration == TOLERATE_ALL
        words += ["--tolerate-all"] if everything else ["--toleration", format_taint(toleration).rstrip(":")]
    words += ["--metrics"] if options.metrics else []
    words += ["--host-pid"] if options.host_pid else []
    words += ["--taint"] if options.taint else []
    words += ["--policy"] if options.policy else []
    words += ["--void"] if options.void else []
    return shlex.join(words)


def _content(manifest: Manifest) -> Manifest:
    """Without what items of a list don't carry."""
    return {name: value for name, value in manifest.items() if name not in ("apiVersion", "kind")}


def _difference(there: Any, wanted: Any, more: bool) -> str | None:
    """Where something isn't as it is wanted; None when it is. A server adds defaults to mappings.

    Args:
        there: part of an object.
        wanted: the same part of a manifest.
        more: whether lists may have more items, in another order.
    """
    parts: Iterable[tuple[str, Any, Any]]
    if isinstance(wanted, Mapping):
        there = there if isinstance(there, Mapping) else {}
        parts = ((f".{name}", there.get(name), value) for name, value in wanted.items())
    elif isinstance(wanted, list):
        if not isinstance(there, list) or (len(there) != len(wanted) and not more):
            return ""
        items = (_item(there, number, item, more) for number, item in enumerate(wanted))
        parts = ((f"[{number}]", *pair) for number, pair in enumerate(zip(items, wanted, strict=True)))
    else:
        return None if there == wanted else ""
    for path, is_there, value in parts:
        deeper = _difference(is_there, value, more)
        if deeper is not None:
            return path + deeper
    return None


def _item(there: list[Any], number: int, wanted: Any, more: bool) -> Any:
    """The item that is to be as the wanted one; None when there is none."""
    if not more:
        return there[number]
    if isinstance(wanted, Mapping) and "name" in wanted:
        return next((item for item in there if item.get("name") == wanted["name"]), None)
    return next((item for item in there if _difference(item, wanted, more) is None), None)
