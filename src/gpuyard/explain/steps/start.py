"""Container start: what a node's runtime says when it can't make or start a container.

Sources: kubernetes `pkg/kubelet/kuberuntime`, containerd 2.1, runc 1.3 for the messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import By, Finding, Owner, Remedy, Step
from gpuyard.explain.messages import find_meaning, meaning
from gpuyard.explain.missing_objects import find_missing_object
from gpuyard.explain.run_objects import RunObjects, event_text
from gpuyard.explain.steps.image import waiting_containers
from gpuyard.kube.objects import Manifest
from gpuyard.kube.pods import container_statuses

#: As a container's `waiting`, or as the end of one that never began.
_REASONS = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "StartError",
        "ContainerCannotRun",
        "PreCreateHookError",
        "PreStartHookError",
        "PostStartHookError",
    }
)
_OUTER = re.compile(
    r"^.*(?:runc create failed: unable to start container process: |OCI runtime create failed: )", re.DOTALL
)
_LONGEST = 400


# `{node}` and the groups of the pattern are filled in.
_MEANINGS = (
    meaning(
        Cause.NO_KEY,
        r"couldn't find key (?P<key>\S+) in (?P<kind>ConfigMap|Secret) \S+?/(?P<name>[^\s/]+)",
        "{kind} {name} has no key {key}",
        Remedy("add the key, or mend its name in the run's env"),
    ),
    meaning(
        Cause.RUNS_AS_ROOT,
        r"runAsNonRoot and image will run as root",
        "runAsNonRoot forbids root, and the image's user is root",
        Remedy("set runAsUser to a number other than 0, or USER in the image"),
    ),
    meaning(
        Cause.NAMED_USER,
        r"runAsNonRoot and image has non-numeric user \((?P<user>[^)]*)\)",
        "runAsNonRoot needs a numeric user, and the image's is {user}",
        Remedy("set runAsUser to that user's number"),
    ),
    meaning(
        Cause.NO_WORKDIR,
        r'chdir to cwd \("(?P<path>[^"]*)"\).*(?P<how>no such file or directory|permission denied)',
        "its folder {path} can't be entered in the container: {how}",
        Remedy("set workdir to a folder of the image, or leave it out"),
    ),
    meaning(
        Cause.NO_EXECUTABLE,
        r'exec: "(?P<program>[^"]*)": (?:executable file not found|stat [^:]*: no such file)|'
        r'stat (?P<path>[^:\s]*): no such file or directory',
        "the image has no program {program}",
        Remedy("name a program that the image has, or use an image that has it"),
    ),
    meaning(
        Cause.NOT_EXECUTABLE,
        r'exec: "(?P<program>[^"]*)": permission denied',
        "{program} isn't executable for the run's user",
        Remedy("run it through its interpreter (python SCRIPT), or make it executable in the image"),
    ),
    meaning(
        Cause.ARCHITECTURE,
        r"[Ee]xec format error",
        "the program is for another CPU architecture than node {node}'s, or a script without #!",
        Remedy("build the image for the node's with `gpuyard build --platform`, or choose other nodes"),
    ),
    meaning(
        Cause.NO_RUNTIME,
        r'no runtime for "(?P<handler>[^"]+)" is configured',
        "the container runtime of node {node} has no handler {handler}, which its runtimeClassName asks for",
        Remedy("leave runtimeClassName out"),
        Remedy("configure the handler {handler} on that node (`nvidia-ctk runtime configure`)", By.OPERATOR),
    ),
    meaning(
        Cause.MEMORY_LIMIT,
        r"container init was OOM-killed|memory limit too low",
        "its memory limit is too low for the container even to start",
        Remedy("raise --memory"),
    ),
    meaning(
        Cause.NETWORK,
        r"failed to setup network|network plugin|cni plugin",
        "node {node} can't give the pod a network",
        Remedy("see to the CNI plugin of that node", By.OPERATOR),
    ),
)  # fmt: skip
_OTHER = meaning(
    Cause.START, "", "node {node} can't start its container", Remedy("see what the runtime says")
)

#: Of a command line in quotes, which was taken for the name of a program.
_WHOLE_LINE = Remedy(
    "write its words without quotes around all of them, or let a shell read the line: "
    "`gpuyard run --shell bash -- '…'`"
)


def find_start(objects: RunObjects) -> Finding | None:
    """Why a placed pod's container doesn't start, or ends as often as it does."""
    pod = objects.pod
    if pod is None or not pod["spec"].get("nodeName"):
        return None
    if failure := next(_failures(pod), None):
        reason, said = failure
        evidence = f"node {pod['spec']['nodeName']} says: {said[:_LONGEST]}"
        return find_missing_object(objects, Step.START, said, evidence) or _finding(pod, f"{reason}: {said}")
    if event := _sandbox_failure(objects, pod):
        return _finding(pod, event)
    return _crashes(pod)


def _failures(pod: Manifest) -> Iterator[tuple[str, str]]:
    for _, waiting in waiting_containers(pod):
        if waiting.get("reason") in _REASONS:
            yield str(waiting["reason"]), str(waiting.get("message") or "")
    for ended in terminated(pod):
        if ended.get("reason") in _REASONS:
            yield str(ended["reason"]), str(ended.get("message") or "")


def terminated(pod: Manifest) -> Iterator[Mapping[str, Any]]:
    """How each container that isn't running ended last; init containers first."""
    for container in container_statuses(pod, init=True):
        state = container.get("state") or {}
        ended = state.get("terminated")
        if ended is None and "waiting" in state:
            ended = (container.get("lastState") or {}).get("terminated")
        if ended is not None:
            yield ended


def _finding(pod: Manifest, said: str) -> Finding:
    node = str(pod["spec"].get("nodeName", ""))
    evidence = f"the runtime says: {_OUTER.sub('', said)[:_LONGEST]}"
    found = find_meaning(_MEANINGS, said)
    if found is None:
        return _OTHER.finding(Step.START, evidence, {"node": node}, Owner("Node", node))
    known, match = found
    groups = {name: text or "" for name, text in match.groupdict().items()}
    groups["program"] = groups.get("program") or groups.get("path", "")
    if known.cause is Cause.NO_EXECUTABLE and len(groups["program"].split()) > 1:
        known = replace(known, remedies=(_WHOLE_LINE,))
    return known.finding(Step.START, evidence, {"node": node, **groups})


def _sandbox_failure(objects: RunObjects, pod: Manifest) -> str:
    """The runtime couldn't even make the pod's sandbox, which only an event says."""
    if not all(
        w.get("reason") in ("ContainerCreating", "PodInitializing") for _, w in waiting_containers(pod)
    ):
        return ""
    if (pod.get("status") or {}).get("phase") != "Pending":
        return ""
    event = objects.last_event("FailedCreatePodSandBox", of=pod)
    later = objects.last_event("Created", "Started", of=pod)
    return event_text(event) if event and not later else ""


def _crashes(pod: Manifest) -> Finding | None:
    for status, waiting in waiting_containers(pod):
        if waiting.get("reason") != "CrashLoopBackOff":
            continue
        last = (status.get("lastState") or {}).get("terminated") or {}
        how = f"exit code {last['exitCode']}" if "exitCode" in last else "an unknown end"
        return Finding(
            Step.PROCESS,
            Cause.CRASH_LOOP,
            f"its container ends each time it is started ({status.get('restartCount', 0)} times), with {how}",
            None,
            (str(waiting.get("message") or "")[:_LONGEST],),
            (Remedy("see its output for why"),),
        )
    return None
