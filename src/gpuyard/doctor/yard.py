"""A yard's chain, link by link: from its folder to what its runs get (pure)."""

from __future__ import annotations

from collections.abc import Callable

from gpuyard import errors
from gpuyard.doctor import registry
from gpuyard.doctor.check import Check, CheckState, Report, broken, ok, skipped, unseen, warning
from gpuyard.doctor.yard_facts import YardFacts
from gpuyard.gpus.faults import (
    SPLIT_OTHERWISE,
    driver_text,
    in_one_line,
    lacking,
    no_gpus_text,
    unoffered_text,
    without_gpus_remedy,
)
from gpuyard.gpus.resources import allocatable_gpus, capacity_gpus, has_simulated_gpus
from gpuyard.kube.nodes import not_ready_text
from gpuyard.kube.objects import Manifest, annotations_of, labels_of
from gpuyard.kube.wellknown import (
    ANNOTATION_CONTAINERS,
    ANNOTATION_ENFORCED,
    ANNOTATION_ISOLATION,
    LABEL_GPU_MODEL,
)
from gpuyard.local.disk import LEAST_FREE_BYTES, MIB, REFUSED_OR_WAIT

#: Logs, checkpoints and images need room.
_LITTLE_BYTES = 2048 * MIB
#: Objects that a message names.
_MAX_NAMED = 5


def judge(facts: YardFacts) -> Report:
    """Every check in the order of the chain; those that a broken one leaves nothing for are skipped."""
    checks = [_folder(facts), _disk(facts), _settings(facts), _daemon(facts), _api(facts)]
    lost = next((check.name for check in checks if check.outcome is CheckState.BROKEN), "node")
    for name, look in _OF_NODE.items():
        if isinstance(facts.node, errors.GpuyardError):
            checks.append(skipped(name, f"{lost} comes first"))
        else:
            checks.append(look(facts, facts.node))
    return Report("yard", "", (*checks, registry.judge(facts.registry)))


def _folder(facts: YardFacts) -> Check:
    if facts.folder is not None:
        return broken("folder", facts.folder.message, facts.folder.remedy)
    return ok("folder", str(facts.paths.data_dir))


def _disk(facts: YardFacts) -> Check:
    text = f"{facts.free_bytes // MIB} MiB free for {facts.paths.data_dir}"
    remedy = "free some space: `gpuyard rm NAME` works on a full disk, too, and takes a run's logs along; "
    remedy += "or set GPUYARD_HOME to a folder elsewhere"
    if facts.free_bytes < LEAST_FREE_BYTES:
        needed = f"{LEAST_FREE_BYTES // MIB} MiB are needed: until then {REFUSED_OR_WAIT}"
        return broken("disk", f"{text}, {needed}", remedy)
    if facts.free_bytes < _LITTLE_BYTES:
        return warning("disk", text, remedy)
    if facts.bounds_logs:
        return ok("disk", text)
    return warning(
        "disk",
        f"{text}; its file system can't free the front of a file, so logs of runs grow without bound",
        "set GPUYARD_HOME to a folder of a local disk (ext4, XFS, btrfs, tmpfs), or NFS 4.2; or keep an eye "
        "on it: `gpuyard rm` removes a run's logs",
    )


def _settings(facts: YardFacts) -> Check:
    if isinstance(facts.settings, errors.GpuyardError):
        return broken("settings", facts.settings.message, facts.settings.remedy)
    simulate = facts.settings.simulate
    return ok("settings", f"simulates {simulate}" if simulate else "this machine's own GPUs")


def _daemon(facts: YardFacts) -> Check:
    if isinstance(facts.pid, errors.GpuyardError):
        return broken("daemon", facts.pid.message, facts.pid.remedy)
    if not facts.pid:
        return broken(
            "daemon",
            "the yard is stopped",
            f"start it with `gpuyard up`, which says why it can't; its log is {facts.paths.daemon_log}",
        )
    return ok("daemon", f"pid {facts.pid}")


def _api(facts: YardFacts) -> Check:
    if facts.folder is not None:
        return skipped("api", "folder comes first")
    if not facts.pid or isinstance(facts.pid, errors.GpuyardError):
        return skipped("api", "daemon comes first")
    if facts.api is not None:
        return broken("api", facts.api.message, facts.api.remedy)
    address = facts.running.api if facts.running else ""
    return ok("api", f"{facts.paths.api_socket} answers; {address}")


def _objects(facts: YardFacts, _: Manifest) -> Check:
    if isinstance(facts.set_aside, errors.GpuyardError):
        return unseen("objects", facts.set_aside)
    if not facts.set_aside:
        return ok("objects", "all that is stored can be read")
    named, more = facts.set_aside[:_MAX_NAMED], len(facts.set_aside) - _MAX_NAMED
    return warning(
        "objects",
        f"{len(facts.set_aside)} set aside: {'; '.join(named)}{f'; and {more} more' if more > 0 else ''}",
        "the others go on without them: submit lost runs again, and delete what is still listed; "
        f"{facts.paths.daemon_log} says more",
    )


def _node(facts: YardFacts, node: Manifest) -> Check:
    name = node["metadata"]["name"]
    if not (why := not_ready_text(node)):
        return ok("node", f"{name} is ready")
    return broken(
        "node",
        f"{name} is {why}",
        "restart the yard: `gpuyard down --keep && gpuyard up`; runs go on",
    )


def _agent(facts: YardFacts, node: Manifest) -> Check:
    pid = facts.running.agent_pid if facts.running else 0
    if pid:
        return ok("agent", f"pid {pid}")
    return broken(
        "agent",
        "the agent, which finds and hands out GPUs, isn't running",
        f"it is started again by itself; {facts.paths.daemon_log} says why it ends",
    )


def _gpus(facts: YardFacts, node: Manifest) -> Check:
    total, usable = capacity_gpus(node), allocatable_gpus(node)
    simulated = " (simulated)" if has_simulated_gpus(node) else ""
    if not total:
        why = no_gpus_text(node) or "none were found"
        return broken("gpus", f"there are none: {why}", without_gpus_remedy(node))
    if facts.health_mistakes:
        file, mistakes = facts.paths.simulated_health, "; ".join(facts.health_mistakes[:_MAX_NAMED])
        return warning(
            "gpus",
            f"{usable} of {total} GPUs can be had{simulated}; {file.name} has mistakes: {mistakes}",
            f'mend {file}; for example {{"unhealthy": {{"3": "XID 79"}}}}',
        )
    if why := driver_text(node):
        return warning(
            "gpus",
            f"{usable} of {total} GPUs can be had; {why}",
            f"running runs keep theirs; more is in {facts.paths.daemon_log}",
        )
    if usable < total:
        faults = lacking(node)
        why = f": {in_one_line(faults)}" if faults else ""
        log = f"they are unhealthy; {facts.paths.daemon_log} says which and why"
        return warning(
            "gpus",
            f"{total - usable} of {total} GPUs can't be had{simulated}{why}",
            faults[0].remedy(on_yard=True) if faults else log,
        )
    there = f"{usable} × {labels_of(node).get(LABEL_GPU_MODEL, 'GPU')}{simulated}"
    if unoffered := unoffered_text(node):
        return warning("gpus", f"{there}; not offered: {unoffered}", SPLIT_OTHERWISE)
    return ok("gpus", there)


def _isolation(facts: YardFacts, node: Manifest) -> Check:
    level = annotations_of(node).get(ANNOTATION_ISOLATION, "none")
    if level != "none":
        return ok("isolation", level)
    return warning(
        "isolation",
        "runs see each other's processes and all devices, and /dev/shm has no size of its own",
        "install bubblewrap (bwrap), and let users make namespaces",
    )


def _limits(facts: YardFacts, node: Manifest) -> Check:
    enforced = annotations_of(node).get(ANNOTATION_ENFORCED, "none")
    if enforced != "none":
        return ok("cgroups", f"limits of {enforced.replace(',', ' and ')} are enforced")
    return warning(
        "cgroups",
        "limits of CPU and memory are counted, not enforced",
        "run the yard where it may make cgroups: in a user session of systemd with cgroup v2, or as root",
    )


def _images(facts: YardFacts, node: Manifest) -> Check:
    runtime, _, version = annotations_of(node).get(ANNOTATION_CONTAINERS, "none: unknown").partition(" ")
    if runtime == "none:":
        return warning(
            "podman",
            f"runs with an image can't go here: {version}",
            "install podman, and mend what it says; runs without an image need none",
        )
    return ok("podman", version) if version else skipped("podman", "it is being tried just now")


_OF_NODE: dict[str, Callable[[YardFacts, Manifest], Check]] = {
    "objects": _objects,
    "node": _node,
    "agent": _agent,
    "gpus": _gpus,
    "isolation": _isolation,
    "cgroups": _limits,
    "podman": _images,
}
