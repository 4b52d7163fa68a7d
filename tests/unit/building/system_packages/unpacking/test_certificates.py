from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gpuyard.building.system_packages.unpacking.certificates import certificate_entries, subject_hash


def make_certificate(name: str, country: str = "DE") -> bytes:
    """A root's certificate, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, country),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    builder = x509.CertificateBuilder(
        issuer_name=subject,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=datetime(2020, 1, 1, tzinfo=UTC),
        not_valid_after=datetime(2040, 1, 1, tzinfo=UTC),
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize("name", ["Test Root CA", "  Two   Blanks ", "Größe Ä", "x" * 60])
def test_openssl_says_the_same_of_a_subject(tmp_path: Path, name: str) -> None:
    pem = make_certificate(name)
    (tmp_path / "c.pem").write_bytes(pem)
    words = ["openssl", "x509", "-in", str(tmp_path / "c.pem"), "-noout", "-hash"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert subject_hash(pem) == said.strip()


def test_certificates_of_one_subject_are_numbered() -> None:
    one, two = make_certificate("a"), make_certificate("A ")
    folder = "usr/share/ca-certificates/mozilla/"
    entries = {
        entry.path: entry for entry in certificate_entries({folder + "b.crt": two, folder + "a.crt": one})
    }
    digest = subject_hash(one)
    assert entries[f"etc/ssl/certs/{digest}.0"].target == "a.pem"
    assert entries[f"etc/ssl/certs/{digest}.1"].target == "b.pem"
    conf = entries["etc/ca-certificates.conf"].content
    assert conf is not None and b"".join(conf()).endswith(b"#\nmozilla/a.crt\nmozilla/b.crt\n")
