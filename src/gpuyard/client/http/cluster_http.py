"""Which carrier takes requests to a cluster."""

from __future__ import annotations

import os

from gpuyard.client.connection.kubeconfig import Connection
from gpuyard.client.http.cluster_endpoint import ClusterEndpoint
from gpuyard.client.http.direct_http import DirectHttp
from gpuyard.client.http.exchange import Http
from gpuyard.http_proxies import proxy_for


def http_to(connection: Connection) -> Http:
    """Straight to the server, or through the proxy that the kubeconfig or the environment names.

    Raises:
        UsageError: nothing could be sent by such a kubeconfig.
    """
    endpoint = ClusterEndpoint(connection)
    if proxy := connection.proxy or proxy_for(endpoint, os.environ):
        from gpuyard.client.http.proxied_http import ProxiedHttp  # Only here: its library takes long to load.

        return ProxiedHttp(connection, proxy)
    return DirectHttp(endpoint)
