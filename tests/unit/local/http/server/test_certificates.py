from __future__ import annotations

import os
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from gpuyard import errors
from gpuyard.local.http.server.certificates import Pki

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    pki = Pki(tmp_path)
    assert pki.ensure(NOW)
    return pki


def contents(pki: Pki) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in pki.folder.iterdir()}


def test_what_is_made(pki: Pki) -> None:
    ca = x509.load_pem_x509_certificate(pki.ca_certificate.read_bytes())
    server = x509.load_pem_x509_certificate(pki.server_certificate.read_bytes())
    server.verify_directly_issued_by(ca)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert server.not_valid_before_utc <= NOW < NOW + timedelta(days=364) < server.not_valid_after_utc
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert {stat.S_IMODE(file.stat().st_mode) for file in pki.folder.iterdir()} == {0o600}


def test_what_is_good_is_kept(pki: Pki) -> None:
    before = contents(pki)
    assert not pki.ensure(NOW + timedelta(days=334))
    assert contents(pki) == before


def test_the_server_is_renewed_in_time_under_the_same_authority(pki: Pki) -> None:
    before = contents(pki)
    assert pki.ensure(NOW + timedelta(days=336))
    after = contents(pki)
    assert after["ca.crt"] == before["ca.crt"]
    assert after["server.crt"] != before["server.crt"]
    assert after["server.key"] != before["server.key"]


def test_an_old_authority_is_made_anew_with_its_server(pki: Pki) -> None:
    before = contents(pki)
    assert pki.ensure(NOW + timedelta(days=3640))
    assert not any(before[name] == content for name, content in contents(pki).items())


@pytest.mark.parametrize("name", ["server.crt", "server.key", "ca.crt", "ca.key"])
@pytest.mark.parametrize("damage", [None, b"", b"# expires 2030-01-01T00:00:00+00:00\nnonsense"])
def test_what_is_lost_or_damaged_is_made_anew(pki: Pki, name: str, damage: bytes | None) -> None:
    if damage is None:
        (pki.folder / name).unlink()
    else:
        (pki.folder / name).write_bytes(damage)
    assert pki.ensure(NOW)
    context = pki.context()
    assert isinstance(context, ssl.SSLContext)
    assert not pki.ensure(NOW)


def test_a_server_of_another_authority_is_made_anew(pki: Pki, tmp_path: Path) -> None:
    """As a daemon leaves it that dies between its new CA and the server's certificate."""
    other = Pki(tmp_path / "other")
    other.folder.mkdir()
    other.ensure(NOW)
    for name in ("ca.crt", "ca.key"):
        (pki.folder / name).write_bytes((other.folder / name).read_bytes())
    assert pki.ensure(NOW)
    ca = x509.load_pem_x509_certificate(pki.ca_certificate.read_bytes())
    x509.load_pem_x509_certificate(pki.server_certificate.read_bytes()).verify_directly_issued_by(ca)
    assert not pki.ensure(NOW)


def test_a_mismatch_while_running_is_said(pki: Pki) -> None:
    context = pki.context()
    pki.server_key.write_bytes(pki.ca_key.read_bytes())
    with pytest.raises(errors.YardError, match="can't be used") as caught:
        pki.load(context)
    assert str(pki.folder) in caught.value.remedy


def test_a_look_at_good_certificates_imports_no_cryptography(pki: Pki) -> None:
    code = (
        "import sys; from pathlib import Path; from datetime import datetime;"
        "from gpuyard.local.http.server.certificates import Pki;"
        f"pki = Pki(Path({str(pki.folder)!r})); now = datetime.fromisoformat({NOW.isoformat()!r});"
        "assert not pki.ensure(now);"
        "pki.context(); sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["ca.crt", "ca.key", "server.crt", "server.key"])
def test_a_fifo_counts_as_missing(pki: Pki, name: str) -> None:
    (pki.folder / name).unlink()
    os.mkfifo(pki.folder / name)
    assert pki.ensure(NOW)
    pki.context()
    assert (pki.folder / name).is_file()


@pytest.mark.parametrize("name", ["ca.crt", "ca.key"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.touch, Path.exists], ids=["fifo", "empty", "missing"])
def test_a_renewal_names_the_authority_that_it_cannot_read(
    pki: Pki, name: str, make: Callable[[Path], object]
) -> None:
    (pki.folder / name).unlink()
    make(pki.folder / name)
    with pytest.raises(errors.YardError, match=f"the authority in {pki.folder} can't be used") as caught:
        pki.renew_server(NOW + timedelta(days=336))
    assert "gpuyard up" in caught.value.remedy
