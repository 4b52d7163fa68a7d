"""Image pull: what a node's runtime says of the registry.

Sources: kubernetes `pkg/kubelet/images` for the reasons, containerd 2.1 `core/remotes/docker` for the
messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import By, Finding, Remedy, Step
from gpuyard.explain.messages import Meaning, find_meaning, meaning
from gpuyard.explain.run_objects import RunObjects, event_text
from gpuyard.kube.objects import Manifest
from gpuyard.kube.pods import PULL_REASONS, container_statuses, is_terminal

_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*":? ?(?:ErrImagePull: )?')
_PULL = re.compile(r'^(?:rpc error: code = \w+ desc = )?failed to pull and unpack image "[^"]*": ')
_LONGEST = 400


# In the order in which they are tried: registries answer "not found" for what needs a login, too, and say so.
# `{image}`, `{registry}` and `{node}` are filled in.
_MEANINGS = (
    meaning(
        Cause.IMAGE_NAME,
        r"InvalidImageName|invalid reference format|couldn't parse image",
        "{image!r} isn't an image's name",
        Remedy("write it as REGISTRY/NAME:TAG, in lower case"),
    ),
    meaning(
        Cause.IMAGE_NEVER_PULLED,
        r"ErrImageNeverPull|pull policy of Never",
        "node {node} doesn't have {image}, and imagePullPolicy Never keeps it from pulling it",
        Remedy("leave imagePullPolicy out, or load the image onto the node"),
    ),
    meaning(
        Cause.IMAGE_PLATFORM,
        r"no match for platform|no matching manifest|does not match the specified platform",
        "{image} has nothing for the CPU architecture of node {node}",
        Remedy("build it for the node's with `gpuyard build --platform`, or choose other nodes"),
    ),
    meaning(
        Cause.IMAGE_UNAUTHORIZED,
        r"(?i)401 Unauthorized|403 Forbidden|authorization failed|insufficient_scope|pull access denied|"
        r"no basic auth credentials|failed to fetch (?:anonymous|oauth) token|unauthorized: |denied: ",
        "registry {registry} doesn't let node {node} pull {image}",
        Remedy(
            "make a Secret for it and run it with --image-pull-secret NAME",
            command="kubectl create secret docker-registry NAME --docker-server={registry} …",
            yard_text="`podman login {registry}` as the yard's user",
        ),
        Remedy("check the name: registries answer the same for an image that isn't there"),
    ),
    meaning(
        Cause.IMAGE_RATE,
        r"toomanyrequests|429 Too Many Requests|rate limit",
        "registry {registry} has had too many pulls from node {node}",
        Remedy("wait: the node tries again by itself"),
        Remedy("pull with an account (imagePullSecrets), or from a mirror"),
    ),
    meaning(
        Cause.REGISTRY_PLAIN,
        r"server gave HTTP response to HTTPS client",
        "registry {registry} speaks plain HTTP, and the runtime of node {node} expects TLS",
        Remedy(
            "allow it in the runtime's hosts.toml for {registry}, or give the registry TLS",
            By.OPERATOR,
            yard_text='allow it in podman\'s registries.conf ([[registry]] with location = "{registry}" and '
            "insecure = true), or give the registry TLS",
        ),
    ),
    meaning(
        Cause.REGISTRY_CERTIFICATE,
        r"x509: |certificate signed by unknown authority|tls: failed to verify",
        "node {node} doesn't trust the certificate of registry {registry}",
        Remedy(
            "put the registry's CA into the runtime's hosts.toml for {registry}",
            By.OPERATOR,
            yard_text="put the registry's CA into ~/.config/containers/certs.d/{registry}/ca.crt, for podman",
        ),
    ),
    meaning(
        Cause.REGISTRY_UNREACHABLE,
        r"connection refused|no such host|i/o timeout|network is unreachable|no route to host|"
        r"connection reset|context deadline exceeded|dial tcp|TLS handshake timeout|50[234] ",
        "registry {registry} doesn't answer node {node}",
        Remedy(
            "check the registry's name: the nodes must reach it, not only this machine",
            yard_text="check the registry's name",
        ),
        Remedy(
            "start the registry, or open the way to it from node {node}",
            By.OPERATOR,
            yard_text="start the registry, or open the way to it from this machine",
        ),
    ),
    meaning(
        Cause.NODE_DISK,
        r"no space left on device",
        "node {node} has no room for {image}",
        Remedy(
            "free disk space on node {node}, or choose another node",
            By.OPERATOR,
            yard_text="free disk space: `podman image prune` removes images that nothing uses",
        ),
    ),
    meaning(
        Cause.IMAGE_NOT_FOUND,
        r": not found|NotFound|manifest unknown|name unknown|repository does not exist",
        "registry {registry} has no {image}",
        Remedy("check name and tag, or push it: `gpuyard build`, `gpuyard image import`"),
    ),
)
_OTHER = meaning(
    Cause.IMAGE_PULL, "", "node {node} can't pull {image}", Remedy("see what the runtime says", By.OPERATOR)
)


def find_image(objects: RunObjects) -> Finding | None:
    """Why the image of a placed pod isn't there, if that is what it waits for."""
    pod = objects.pod
    if pod is None or is_terminal(pod):
        return None
    for status, waiting in waiting_containers(pod):
        if waiting.get("reason") in PULL_REASONS:
            return _finding(objects, pod, status, waiting)
    return None


def waiting_containers(pod: Manifest) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each container that waits: its status and the `waiting` in it; init containers first."""
    for container in container_statuses(pod, init=True):
        if waiting := (container.get("state") or {}).get("waiting"):
            yield container, waiting


def _finding(
    objects: RunObjects, pod: Manifest, status: Mapping[str, Any], waiting: Mapping[str, Any]
) -> Finding:
    reason, said = str(waiting["reason"]), _cleaned(str(waiting.get("message") or ""))
    if not said or said == reason:
        # Before 1.32 a back-off says no more than that; the event of the failure does.
        event = objects.last_event("Failed", "InspectFailed", of=pod)
        said = _cleaned(event_text(event)) if event else reason
    spec = pod["spec"]
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    image = next((c["image"] for c in containers if c["name"] == status["name"]), status.get("image", ""))
    known, _ = find_meaning(_MEANINGS, f"{reason}: {said}") or (_OTHER, None)
    names = {"image": image, "registry": registry_of(image), "node": spec.get("nodeName", "")}
    evidence = f"the runtime says: {said[:_LONGEST]}"
    return replace(known, remedies=_remedies(objects, known)).finding(Step.IMAGE, evidence, names)


def _remedies(objects: RunObjects, known: Meaning) -> tuple[Remedy, ...]:
    if known.cause is not Cause.IMAGE_UNAUTHORIZED:
        return known.remedies
    named = [secret.get("name", "") for secret in objects.spec.get("imagePullSecrets") or ()]
    if named and not objects.is_yard:
        text = f"see that Secret {', '.join(named)} is there, in this namespace and for registry {{registry}}"
        return (Remedy(text), *known.remedies[1:])
    return known.remedies


def _cleaned(message: str) -> str:
    """Without what each of the runtime's layers says again."""
    message = re.sub(r'^Failed to pull image "[^"]*": ', "", message)
    return _PULL.sub("", _BACK_OFF.sub("", message))


def registry_of(image: str) -> str:
    """The host that an image is pulled from. Source: distribution/reference `splitDockerDomain`."""
    first, slash, _ = image.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return first if is_host else "docker.io"
