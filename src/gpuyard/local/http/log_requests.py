"""Requests for a container's log: their options, and which container they mean."""

from __future__ import annotations

from gpuyard import errors
from gpuyard.client.log_place import LOG_FRAMES
from gpuyard.kube.objects import Manifest, annotations_of
from gpuyard.kube.timestamps import LONGEST_S
from gpuyard.local.http.request import Request
from gpuyard.local.objects.pod_logs import LogOptions


def parse_log_options(request: Request) -> LogOptions:
    """Reads the query of a log request.

    Raises:
        BadRequest: a parameter is wrong, or asks for something that the yard doesn't serve.
    """
    for name in ("sinceTime", "timestamps"):
        if request.query.get(name) not in (None, "", "false"):
            raise errors.BadRequest(f"{name} is not served by this yard: its logs carry no times")
    if request.query.get("stream") not in (None, "", "All"):
        raise errors.BadRequest("stream: the yard keeps stdout and stderr in one log; only All is served")
    since_s = request.number("sinceSeconds")
    return LogOptions(
        follow=request.flag("follow"),
        tail_lines=request.number("tailLines"),
        limit_bytes=request.number("limitBytes"),
        since_s=None if since_s is None else min(since_s, LONGEST_S),
        previous=request.flag("previous"),
        in_frames=request.headers.get(b"accept") == LOG_FRAMES.encode(),
    )


def choose_container(pod: Manifest, wanted: str) -> str:
    """The container that a log request means.

    Raises:
        BadRequest: it names none of the pod's, or none where the pod has several, or the pod has no node yet.
    """
    name, spec = pod["metadata"]["name"], pod["spec"]
    names = [c["name"] for field in ("initContainers", "containers") for c in spec.get(field) or ()]
    if not wanted:
        main = [c["name"] for c in spec["containers"]]
        default = annotations_of(pod).get("kubectl.kubernetes.io/default-container")
        if len(main) > 1 and default not in main:
            raise errors.BadRequest(
                f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
            )
        wanted = default if default is not None and default in main else main[0]
    elif wanted not in names:
        raise errors.BadRequest(f"container {wanted} is not valid for pod {name}")
    if not spec.get("nodeName"):
        raise errors.BadRequest(f"pod {name} does not have a host assigned")
    return wanted
