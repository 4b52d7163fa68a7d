"""Asks the kubelet which containers hold which devices: PodResources v1, on its unix socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from gpuyard import errors
from gpuyard._proto import pod_resources_pb2 as pb
from gpuyard._proto import pod_resources_pb2_grpc as rpc
from gpuyard.agent.metrics.holdings import Holding

#: The kubelet answers within milliseconds; a scrape doesn't wait long for one that doesn't.
_LIMIT_S = 1.0
#: A node with many pods lists more than gRPC's 4 MiB.
_MOST_BYTES = 16 << 20


class PodResources:
    """A client that connects when it is first asked, and again after the kubelet's restart.

    Args:
        socket: the kubelet's.
        limit_s: it has to answer within this.
    """

    def __init__(self, socket: Path, limit_s: float = _LIMIT_S) -> None:
        self._socket = socket
        self._limit_s = limit_s
        # A kubelet that comes back is to be found at once.
        options = [
            ("grpc.max_receive_message_length", _MOST_BYTES),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        self._channel: Any = grpc.aio.insecure_channel(f"unix:{socket}", options=options)
        self._listed = pb.ListPodResourcesResponse()
        self._holdings: tuple[Holding, ...] = ()
        self._stub = rpc.PodResourcesListerStub(self._channel)

    async def holdings(self) -> tuple[Holding, ...]:
        """Of all containers of the node; the same object as before as long as nothing changes.

        Raises:
            DeviceError: the kubelet doesn't say.
        """
        try:
            listed = await self._stub.List(pb.ListPodResourcesRequest(), timeout=self._limit_s)
        except grpc.RpcError as error:
            why = error.details() if isinstance(error, grpc.aio.AioRpcError) else error
            raise errors.DeviceError(
                f"the kubelet doesn't say which pods hold GPUs ({self._socket}): {why}",
                remedy="see whether the kubelet runs, and whether the agent may read its socket",
            ) from error
        if listed is None:  # gRPC's word for what can't be read.
            raise errors.DeviceError(
                f"the kubelet doesn't say which pods hold GPUs ({self._socket}): its answer is no message",
                remedy="see whether it is the kubelet that serves this socket",
            )
        if listed == self._listed:
            return self._holdings
        self._listed = listed
        self._holdings = tuple(
            Holding(pod.namespace, pod.name, container.name, devices.resource_name, device_id)
            for pod in listed.pod_resources
            for container in pod.containers
            for devices in container.devices
            for device_id in devices.device_ids
        )
        return self._holdings

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()
