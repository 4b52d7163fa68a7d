"""What requests for streams ask, and the refusals that come before the upgrade.

Sources: kubernetes `pkg/registry/core/pod/rest/subresources.go`, `pkg/kubelet/server/server.go`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from gpuyard import errors
from gpuyard.kube.objects import Manifest
from gpuyard.local.http.answers import Upgrade
from gpuyard.local.http.request import Request, Scope
from gpuyard.local.http.streams import port_forward, remote_command
from gpuyard.local.http.streams.websocket import ServedWebSocket, check_handshake
from gpuyard.local.objects.pod_logs import PodLogOptions, PodLogs
from gpuyard.local.objects.pod_streams import PodStreams, StreamOptions


def open_exec(streams: PodStreams, pod: Manifest, container: str, request: Request) -> Upgrade:
    """Reads what is asked for; the command is started once the client has its WebSocket.

    For kubectl takes a refusal before that for a server without WebSockets, and tries SPDY.

    Raises:
        BadRequest: the request asks for nothing that can be done.
    """
    command = request.words("command")
    if not command or not command[0]:
        raise errors.BadRequest("you must specify at least one command for the container")
    if any("\0" in word for word in command):
        raise errors.BadRequest("a word of the command has a NUL character")
    options = _options(request)
    handshake = check_handshake(request, remote_command.SUBPROTOCOLS)

    async def run(scope: Scope) -> None:
        async with ServedWebSocket.accept(scope, handshake) as socket:
            try:
                opened = await streams.exec(pod, container, command, options)
                await remote_command.serve(socket, opened, tty=options.tty)
            except errors.GpuyardError as error:
                await remote_command.refuse(socket, error)

    return Upgrade(run)


def open_attach(
    streams: PodStreams, logs: PodLogs, pod: Manifest, container: str, request: Request
) -> Upgrade:
    """Reads what is asked for; what the container prints from now on is what its log gets.

    Raises:
        BadRequest: the request asks for nothing that can be done.
    """
    options = _options(request)
    handshake = check_handshake(request, remote_command.SUBPROTOCOLS)

    async def run(scope: Scope) -> None:
        async with ServedWebSocket.accept(scope, handshake) as socket:
            try:
                given = await streams.attach(pod, container, options)
                try:
                    wanted = PodLogOptions(follow=True, tail_lines=0, promptly=given.stdin is not None)
                    log = await logs.open_log(pod, container, wanted)
                    await remote_command.follow(socket, log.pieces, given)
                finally:
                    given.close()
            except errors.GpuyardError as error:
                await remote_command.refuse(socket, error)

    return Upgrade(run)


def open_port_forward(streams: PodStreams, pod: Manifest, request: Request) -> Upgrade:
    """Reads what is asked for; each connection is opened when the client asks for it.

    Raises:
        BadRequest: the pod doesn't run, or the client speaks something else.
    """
    name, phase = pod["metadata"]["name"], (pod.get("status") or {}).get("phase", "Pending")
    if phase != "Running":
        raise errors.BadRequest(f"pod {name} isn't running: its phase is {phase}")
    handshake = check_handshake(request, port_forward.SUBPROTOCOLS)

    async def run(scope: Scope) -> None:
        async with ServedWebSocket.accept(scope, handshake) as socket:
            await port_forward.serve(socket, partial(streams.connect, pod))

    return Upgrade(run)


def _options(request: Request) -> StreamOptions:
    options = StreamOptions(**{name: request.flag(name) for name in ("stdin", "stdout", "stderr", "tty")})
    if options.tty:
        options = replace(options, stderr=False)  # as kubelets do: a terminal has one output
    if not (options.stdin or options.stdout or options.stderr):
        raise errors.BadRequest("you must specify at least 1 of stdin, stdout, stderr")
    return options
