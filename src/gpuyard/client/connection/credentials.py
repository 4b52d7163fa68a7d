"""Where a connection was written down, for the messages about it: which cluster, which user, which file."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from gpuyard.kube.timestamps import format_time


class Proof(StrEnum):
    """How a user of a kubeconfig proves who it is."""

    CERTIFICATE = "client certificate"
    TOKEN = "token"
    PLUGIN = "token of its credential plugin"
    PASSWORD = "password"
    NONE = "nothing"


@dataclass(frozen=True)
class Origin:
    """The entries of a kubeconfig that made a connection.

    Attributes:
        cluster, cluster_file: the entry of `clusters` and the file that it is in.
        user, user_file: likewise of `users`; empty when the context names none.
        proof: what the user has.
        certificate: the client's, PEM; the key isn't here.
    """

    cluster: str
    cluster_file: Path
    user: str
    user_file: Path
    proof: Proof
    certificate: bytes = b""

    @property
    def user_text(self) -> str:
        """`user 'ann' of /home/ann/.kube/config`."""
        return f"user {self.user!r} of {self.user_file}" if self.user else f"no user of {self.user_file}"

    @property
    def cluster_text(self) -> str:
        """`cluster 'gpu' of /home/ann/.kube/config`."""
        return f"cluster {self.cluster!r} of {self.cluster_file}"


def masked(address: str) -> str:
    """A URL as messages may have it: a password in it, or a query, may be a secret."""
    # Up to the last @: a password may have any other sign, and some look like one.
    return re.sub(r"(?<=//).*[@\uff20\ufe6b]", "***@", address, flags=re.DOTALL).partition("?")[0]


def why_unauthorized(origin: Origin, headers: Mapping[str, str], now: datetime) -> tuple[str, str]:
    """Why an API doesn't take these credentials, as far as they tell, and what to do."""
    again = f"get a new kubeconfig from whoever runs the cluster, and put its user into {origin.user_file}"
    if origin.proof is Proof.NONE:
        return (
            f"{origin.user_text} has no credentials",
            f"add a token, a client certificate or an exec plugin to it, or {again}",
        )
    if origin.proof is Proof.CERTIFICATE:
        starts, ends = _certificate_life(origin.certificate)
        if ends and ends < now:
            return f"the client certificate of {origin.user_text} expired at {format_time(ends)}", again
        if starts and starts > now:
            return (
                f"the client certificate of {origin.user_text} counts from {format_time(starts)} on",
                "is the clock of this machine right?",
            )
        return (
            f"it doesn't take the client certificate of {origin.user_text}",
            f"another authority than this cluster's has signed it, or the cluster was made anew: {again}",
        )
    if origin.proof is Proof.PLUGIN:
        return (
            f"it doesn't take the {origin.proof} of {origin.user_text}",
            "log in again with that plugin's own program; is it this cluster's?",
        )
    ends = _token_end(headers.get("Authorization", ""))
    if ends and ends < now:
        return f"the {origin.proof} of {origin.user_text} expired at {format_time(ends)}", again
    return f"it doesn't take the {origin.proof} of {origin.user_text}", f"it may have been withdrawn: {again}"


def _certificate_life(certificate: bytes) -> tuple[datetime | None, datetime | None]:
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(certificate)
    except ValueError:
        return None, None
    return found.not_valid_before_utc, found.not_valid_after_utc


def _token_end(authorization: str) -> datetime | None:
    """When a bearer token that is a JWT ends; others don't say."""
    parts = authorization.removeprefix("Bearer ").split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), UTC)
    except (binascii.Error, ValueError, KeyError, TypeError, OverflowError, OSError):
        return None
