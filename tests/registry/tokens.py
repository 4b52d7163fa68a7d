"""A token server as docker-registry trusts it: signed JWTs with the access that was asked for."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa


class TokenServer:
    """`asked` holds the scopes of each token, in order; strangers get tokens without any access."""

    def __init__(self, folder: Path, users: Mapping[str, str]) -> None:
        self._users = users
        self.asked: list[list[str]] = []
        self._key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tokens")])
        now = datetime.now(UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(self._key, hashes.SHA256())
        )
        self._bundle = folder / "tokens.pem"
        self._bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        self._port = 0

    @property
    def registry_config(self) -> str:
        return (
            f'auth: {{token: {{realm: "http://127.0.0.1:{self._port}/token", service: here, issuer: tests, '
            f"rootcertbundle: {self._bundle}}}}}\n"
        )

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path, users: Mapping[str, str]) -> AsyncIterator[TokenServer]:
        self = cls(folder, users)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        query = parse_qs(urlsplit(head.split(" ")[1]).query)
        rows = dict(row.split(": ", 1) for row in head.strip().split("\r\n")[1:])
        known = {"Basic " + base64.b64encode(f"{u}:{p}".encode()).decode() for u, p in self._users.items()}
        sent = {name.lower(): value for name, value in rows.items()}.get("authorization")
        self.asked.append(query.get("scope", []))
        if sent is not None and sent not in known:
            status, body = "401 Unauthorized", b"{}"
        else:
            access = self.asked[-1] if sent else []
            status, body = "200 OK", json.dumps({"token": self._token(access), "expires_in": 300}).encode()
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        )
        await writer.drain()
        writer.close()

    def _token(self, scopes: list[str]) -> str:
        chain = [base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()]
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        who = {"iss": "tests", "sub": "me", "aud": "here", "jti": "1"}
        claims = {**who, "access": access, "iat": now, "nbf": now - 10, "exp": now + 300}
        signed = ".".join(map(_segment, ({"typ": "JWT", "alg": "RS256", "x5c": chain}, claims)))
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
