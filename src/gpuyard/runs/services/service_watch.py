"""One service, kept current by watches."""

from __future__ import annotations

from gpuyard import errors
from gpuyard.kube.objects import DEPLOYMENTS, PODS, SERVICES, uid_of
from gpuyard.runs.following.named_watch import NamedWatch
from gpuyard.runs.services.service import Service, make_service
from gpuyard.runs.target import Target


class ServiceWatch(NamedWatch):
    """Owns the watches of one service; `change` waits for the next thing that happens to it."""

    def __init__(self, target: Target, name: str) -> None:
        """Asks for nothing before `watching`."""
        super().__init__(target, name, (DEPLOYMENTS, PODS, SERVICES))
        self._target = target
        self._uid = ""

    @property
    def service(self) -> Service:
        """The service as it is now, or was when the API answered last.

        Raises:
            GpuyardError: somebody removed it, be it to put another of this name in its place.
        """
        objects = {one: list(informer.objects.values()) for one, informer in self.informers.items()}
        for deployment in objects[DEPLOYMENTS]:
            if self._uid in ("", uid_of(deployment)):
                self._uid = uid_of(deployment)
                return make_service(self._target, deployment, objects[PODS], objects[SERVICES])
        raise errors.GpuyardError(f"{self.name} was removed while it was followed")
