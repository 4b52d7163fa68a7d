"""The way into registries: one set of connections, credentials and tokens for a whole command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

from gpuyard.images.reference import ImageReference
from gpuyard.images.registry.answers import error_of
from gpuyard.images.registry.auth import Authorizer
from gpuyard.images.registry.credentials import CredentialSource, StoredCredentials
from gpuyard.images.registry.http import RegistryHttp
from gpuyard.images.registry.repository import RegistryStore
from gpuyard.images.registry.settings import RegistrySettings, address_of
from gpuyard.images.registry.urls import Url


class RegistryClient:
    """Use as an async context manager; repositories taken from it live as long as it does.

    Args:
        settings: what is trusted and how hard is tried.
        credentials: who we are at each registry.
        http: made from the settings unless given.
        clock: monotonic seconds, for the life of tokens; `time.monotonic` unless given.
    """

    def __init__(
        self,
        settings: RegistrySettings,
        credentials: CredentialSource,
        *,
        http: RegistryHttp | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.settings = settings
        self._credentials = credentials
        self._http = http or RegistryHttp(settings)
        self._clock = clock
        self._authorizers: dict[str, Authorizer] = {}

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str], settings: RegistrySettings | None = None
    ) -> RegistryClient:
        """With the credentials of Docker and podman, and what is trusted as the environment has them."""
        chosen = (settings or RegistrySettings()).with_environ(environ)
        return cls(chosen, StoredCredentials.from_environ(environ))

    async def __aenter__(self) -> RegistryClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.aclose()

    def repository(self, reference: ImageReference, *, push: bool = False) -> RegistryStore:
        """The reference's repository; push when writing is meant, so that one token does for all."""
        registry = reference.registry
        address = address_of(registry, self.settings)
        store = RegistryStore(self._http, self._authorizer(registry), address, registry, reference.repository)
        return store.for_push() if push else store

    def expect(self, reference: ImageReference) -> None:
        """Prepares for requests to the reference's registry; within the event loop."""
        self._http.expect(Url.parse(address_of(reference.registry, self.settings)))

    async def ping(self, registry: str) -> None:
        """Asks whether there is a registry (HOST[:PORT]) that takes us.

        Raises:
            UsageError: that is no registry's name.
            RegistryError: there is none, it doesn't answer, or it wants other credentials.
        """
        name = ImageReference.parse(f"{registry}/ping").registry
        address = Url.parse(address_of(name, self.settings))
        authority = self._authorizer(name).scoped(address, "")
        answer = await self._http.request("GET", address.join("/v2/"), authority=authority)
        if answer.status != 200:
            raise error_of(answer, f"asking {name} whether it is a registry")

    def _authorizer(self, registry: str) -> Authorizer:
        if registry not in self._authorizers:
            clock = {"clock": self._clock} if self._clock else {}
            self._authorizers[registry] = Authorizer(registry, self._credentials, self._http, **clock)
        return self._authorizers[registry]
