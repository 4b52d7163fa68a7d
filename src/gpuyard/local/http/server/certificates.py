"""The yard's own certificate authority and the certificate of its server.

cryptography is imported only when something must be made: it would cost every start 30 ms and
the idle daemon 10 MB.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.local.settings import write_private
from gpuyard.regular_files import open_regular, read_regular

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

_CA_LIFE = timedelta(days=3650)
_SERVER_LIFE = timedelta(days=365)
#: A certificate with less left than this is made anew.
RENEW_BEFORE = timedelta(days=30)
#: First lines of our certificate files, before the PEM block, where readers of PEM skip them: so that their
#: age, and the authority that signed them, can be told without a parser of certificates.
_EXPIRES = "# expires "
_AUTHORITY = "# authority "
#: Clocks of other programs may be a little behind.
_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Pki:
    """The files of one yard's certificates.

    Attributes:
        folder: 0700; holds ca.crt, ca.key, server.crt, server.key, the keys 0600.
    """

    folder: Path

    @property
    def ca_certificate(self) -> Path:
        """What clients trust."""
        return self.folder / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """What signs the server's certificates."""
        return self.folder / "ca.key"

    @property
    def server_certificate(self) -> Path:
        """What the server shows."""
        return self.folder / "server.crt"

    @property
    def server_key(self) -> Path:
        """Its key."""
        return self.folder / "server.key"

    def ensure(self, now: datetime) -> bool:
        """Makes what is missing, damaged or about to expire; says whether anything was made.

        With a new CA, kubeconfigs written before no longer work.

        Raises:
            StoreError: a file can't be written.
        """
        if _is_good(self.ca_certificate, self.ca_key, now):
            return self.renew_server(now)
        self._make_ca(now)
        self._make_server(now)
        return True

    def renew_server(self, now: datetime) -> bool:
        """Makes the server's certificate anew when it must be; says whether it did.

        Raises:
            StoreError: a file can't be written.
        """
        if _is_good(self.server_certificate, self.server_key, now) and self._is_signed_by_ca():
            return False
        self._make_server(now)
        return True

    def _is_signed_by_ca(self) -> bool:
        """False when somebody died between making a new CA and its server's certificate."""
        try:
            return read_regular(self.server_certificate).decode().split("\n")[1] == self._authority_line()
        except (OSError, ValueError, IndexError):
            return False

    def _authority_line(self) -> str:
        return f"{_AUTHORITY}{hashlib.sha256(read_regular(self.ca_certificate)).hexdigest()}"

    def context(self) -> ssl.SSLContext:
        """A server's TLS context with the current certificate; `load` refreshes it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load(context)
        return context

    def load(self, context: ssl.SSLContext) -> None:
        """Loads the current certificate into a context that may be in use; new connections get it.

        Raises:
            YardError: the files don't fit together.
        """
        try:
            _load_chain(context, self.server_certificate, self.server_key)
        except (OSError, ssl.SSLError) as error:
            raise errors.YardError(
                f"the certificate in {self.folder} can't be used: {error}",
                remedy=f"remove {self.folder}: a new one is made at `gpuyard up`",
            ) from error

    def _make_ca(self, now: datetime) -> None:
        from cryptography import x509

        name, key = _name("gpuyard yard CA"), _new_key()
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            _builder(name, name, key, now, _CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        self._save(self.ca_certificate, self.ca_key, builder, key, key, authority="")

    def _make_server(self, now: datetime) -> None:
        import ipaddress

        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from cryptography.x509.oid import ExtendedKeyUsageOID

        try:
            ca = x509.load_pem_x509_certificate(read_regular(self.ca_certificate))
            ca_key = load_pem_private_key(read_regular(self.ca_key), None)
        except (OSError, ValueError) as error:
            raise errors.YardError(
                f"the authority in {self.folder} can't be used: {error}",
                remedy="`gpuyard down --keep && gpuyard up` makes a new one",
            ) from error
        assert isinstance(ca_key, EllipticCurvePrivateKey)
        key = _new_key()
        names = x509.SubjectAlternativeName(
            [
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                x509.IPAddress(ipaddress.ip_address("::1")),
                x509.DNSName("localhost"),
            ]
        )
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
        builder = (
            _builder(_name("gpuyard yard API"), ca.subject, key, now, _SERVER_LIFE)
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(authority, critical=False)
        )
        signed = self._authority_line() + "\n"
        self._save(self.server_certificate, self.server_key, builder, key, ca_key, authority=signed)

    def _save(
        self,
        certificate_file: Path,
        key_file: Path,
        builder: x509.CertificateBuilder,
        key: EllipticCurvePrivateKey,
        signer: EllipticCurvePrivateKey,
        *,
        authority: str,
    ) -> None:
        from cryptography.hazmat.primitives import hashes, serialization

        certificate = builder.sign(signer, hashes.SHA256())
        key_pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        expires = f"{_EXPIRES}{certificate.not_valid_after_utc.isoformat()}\n"
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        write_private(key_file, key_pem.decode())
        write_private(certificate_file, expires + authority + pem)


def _is_good(certificate: Path, key: Path, now: datetime) -> bool:
    """Whether both files are there, belong together and serve for a while yet."""
    try:
        _load_chain(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
        first_line = read_regular(certificate).decode().partition("\n")[0]
        expires = datetime.fromisoformat(first_line.removeprefix(_EXPIRES))
    except (OSError, ValueError):
        return False
    return expires - now >= RENEW_BEFORE


def _load_chain(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    for file in (certificate, key):
        os.close(open_regular(file, follow_links=True))  # OpenSSL would wait for a FIFO's other end
    context.load_cert_chain(certificate, key)


def _name(common_name: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    from cryptography import x509

    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - _SKEW,
        not_valid_after=now + life,
    )
