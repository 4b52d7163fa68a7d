"""What the server tells of itself: version, health, discovery, OpenAPI."""

from __future__ import annotations

import orjson

from gpuyard import __version__
from gpuyard.local import KUBERNETES_VERSION
from gpuyard.local.http.answers import Response
from gpuyard.local.http.discovery import AGGREGATED, Discovery
from gpuyard.local.http.negotiation import JSON_RANGES, not_acceptable
from gpuyard.local.http.openapi import OpenApi
from gpuyard.local.http.request import Request
from gpuyard.local.objects.kinds.registry import Kinds

_OTHER_PATHS = ("/", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version")
HEALTH_PATHS = ("/healthz", "/livez", "/readyz")

_VERSION = orjson.dumps(
    {
        "major": "1",
        "minor": KUBERNETES_VERSION.split(".")[1],
        "gitVersion": f"v{KUBERNETES_VERSION}+gpuyard-{__version__}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }
)
#: `kubectl create -f` with a List asks for this one and takes nothing but protobuf: a Document of gnostic's
#: openapiv2.proto with `swagger` (1) and an empty `info` (2). It describes nothing, and so leaves the
#: check of fields to the server.
_OPENAPI_V2 = b"\x0a\x032.0\x12\x00"
_OPENAPI_V2_TYPE = b"application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


class Documents:
    """What can be read of a server that serves these kinds."""

    def __init__(self, kinds: Kinds) -> None:
        self._discovery = Discovery(kinds)
        self._openapi = OpenApi(kinds)

    @property
    def paths(self) -> tuple[str, ...]:
        """Where there is a document."""
        return tuple(sorted((*self._discovery.paths(), *self._openapi.paths(), *_OTHER_PATHS)))

    def find(self, request: Request) -> Response | None:
        """The document at a path that isn't a resource's; None when there is none.

        Raises:
            NotAcceptable: the client takes none of its forms.
        """
        path = request.path
        if path == "/":
            return Response(200, orjson.dumps({"paths": self.paths}))
        if path == "/version":
            return Response(200, _VERSION)
        if path in HEALTH_PATHS:
            return Response(200, b"ok", b"text/plain; charset=utf-8")
        if path == "/openapi/v2":
            return Response(200, _OPENAPI_V2, _OPENAPI_V2_TYPE)
        if path.startswith("/openapi/v3"):
            body = self._openapi.document(path)
            return Response(200, body) if body is not None else None
        return self._find_discovery(request) if path.startswith("/api") else None

    def _find_discovery(self, request: Request) -> Response | None:
        for entry in request.accepted():
            parameters = entry.parameters
            if entry.type not in JSON_RANGES:
                continue
            if parameters.get("g") == "apidiscovery.k8s.io" and parameters.get("v") == "v2":
                if (body := self._discovery.aggregated(request.path)) is not None:
                    return Response(200, body, AGGREGATED.encode())
            elif "as" not in parameters:
                body = self._discovery.document(request.path)
                return Response(200, body) if body is not None else None
        raise not_acceptable()
