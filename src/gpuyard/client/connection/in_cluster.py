"""The connection of a pod to the API of its own cluster.

Source: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from gpuyard import errors
from gpuyard.client.connection.kubeconfig import Connection

CREDENTIALS = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def in_cluster_connection(environ: Mapping[str, str], credentials: Path = CREDENTIALS) -> Connection:
    """A connection with the token as it is now: the kubelet replaces it within the hour, so don't keep it.

    Raises:
        ConnectionFailed: this isn't a pod, or its account's token isn't mounted.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise errors.ConnectionFailed(
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT aren't set",
            remedy="run this in a pod, or name the API with --api-socket",
        )
    try:
        token = (credentials / "token").read_text().strip()
        tls = ssl.create_default_context(cafile=str(credentials / "ca.crt"))
    except OSError as error:
        raise errors.ConnectionFailed(
            f"can't read the service account's credentials in {credentials}: {error}",
            remedy="mount the token and ca.crt there (a projected volume)",
        ) from error
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Connection(server, tls=tls, headers={"Authorization": f"Bearer {token}"})
