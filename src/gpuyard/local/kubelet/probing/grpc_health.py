"""`grpc.health.v1.Health/Check` of a container.

Its two messages have one field each, so they are written and read here by hand.
Sources: kubernetes `pkg/probe/grpc`; https://github.com/grpc/grpc-proto/blob/master/grpc/health/v1/health.proto
"""

from __future__ import annotations

from typing import Any

from gpuyard.local.kubelet.probing.answer import ProbeAnswer, ProbeResult, failure

_CHECK = "/grpc.health.v1.Health/Check"
_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_SERVING = 1
_STRING_1, _VARINT_1 = 0x0A, 0x08


async def check(host: str, port: int, service: str, timeout_s: float) -> ProbeAnswer:
    """Asks once, without TLS, as Kubernetes does."""
    import grpc.aio

    address = f"{host}:{port}"
    # A channel of its own: one that several share goes on waiting after it was refused.
    options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        call = channel.unary_unary(_CHECK, request_serializer=_request, response_deserializer=_status)
        try:
            status: int = await call(service, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return failure(_why(error.code().name, error.details() or "", address, timeout_s))
    if status == _SERVING:
        return ProbeAnswer(ProbeResult.SUCCESS, "service healthy")
    name = _STATUSES[status] if 0 <= status < len(_STATUSES) else str(status)
    return failure(f'service unhealthy (responded with "{name}")')


def _why(code: str, details: str, address: str, timeout_s: float) -> str:
    if code == "UNIMPLEMENTED":
        return (
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): "
            f"{details}"
        )
    if code == "DEADLINE_EXCEEDED":
        return f"timeout: health rpc did not complete within {timeout_s:g}s"
    if code == "UNAVAILABLE":
        return f'timeout: failed to connect service "{address}" within {timeout_s:g}s: {details}'
    # As Go names them: NOT_FOUND is NotFound there.
    name = "".join(word.capitalize() for word in code.split("_"))
    return f"error: health rpc probe failed: rpc error: code = {name} desc = {details}"


def _request(service: str) -> bytes:
    """`string service = 1`."""
    name = service.encode()
    return bytes([_STRING_1]) + _varint(len(name)) + name if name else b""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _status(message: bytes) -> int:
    """`ServingStatus status = 1`; what isn't there is 0, as with every enum."""
    return message[1] if len(message) >= 2 and message[0] == _VARINT_1 else 0
