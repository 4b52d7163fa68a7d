"""Kubeconfigs of users who aren't the administrator, and of connections that don't work."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.cluster.gpuyard_on import CONTEXT, Gpuyard
from tests.cluster.harness.cluster import Cluster


def as_user(
    gpuyard: Gpuyard,
    folder: Path,
    user: Mapping[str, Any] | None = None,
    *,
    cluster: Mapping[str, str] | None = None,
) -> tuple[Gpuyard, Path]:
    """The command line with a kubeconfig of its own, whose cluster's entry has these fields, too."""
    raw = json.loads(gpuyard.cluster.kubeconfig.read_text())
    raw["clusters"][0]["cluster"] |= cluster or {}
    if user is not None:
        raw["users"] = [{"name": "bob", "user": user}]
        raw["contexts"][0]["context"]["user"] = "bob"
    assert raw["contexts"][0]["name"] == CONTEXT
    file = folder / "kubeconfig"
    file.write_text(json.dumps(raw))
    return Gpuyard(gpuyard.cluster, folder, file), file


def account(gpuyard: Gpuyard, folder: Path, namespace: str) -> Gpuyard:
    """The command line as a new ServiceAccount `bob` of the namespace, who may do nothing yet."""
    cluster = gpuyard.cluster
    cluster.kubectl("create", "serviceaccount", "bob", f"-n={namespace}")
    token = cluster.kubectl("create", "token", "bob", f"-n={namespace}").strip()
    return as_user(gpuyard, folder, {"token": token})[0]


def certificate(cluster: Cluster, *, ends: timedelta, by_stranger: bool = False) -> dict[str, str]:
    """A client's certificate and key for a kubeconfig, by the cluster's authority or by one it doesn't know.

    Args:
        cluster: whose authority signs it.
        ends: from now; negative for one that has expired.
        by_stranger: sign it with a key that isn't the authority's.
    """
    pki = cluster.folder / "pki"
    signer = serialization.load_pem_private_key((pki / "ca.key").read_bytes(), None)
    if by_stranger:
        signer = ec.generate_private_key(ec.SECP256R1())
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    names = [(NameOID.ORGANIZATION_NAME, "system:masters"), (NameOID.COMMON_NAME, "bob")]
    built = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in names]))
        .issuer_name(x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes()).subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + ends)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "client-certificate-data": _encoded(built.public_bytes(serialization.Encoding.PEM)),
        "client-key-data": _encoded(private),
    }


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
