import ssl
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.client.connection.in_cluster import in_cluster_connection

ENVIRON = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("secret\n")
    authorities = ssl.get_default_verify_paths().cafile
    assert authorities
    (tmp_path / "ca.crt").write_bytes(Path(authorities).read_bytes())
    return tmp_path


def test_address_and_token(credentials: Path) -> None:
    connection = in_cluster_connection(ENVIRON, credentials)
    assert connection.server == "https://10.96.0.1:443"
    assert connection.headers == {"Authorization": "Bearer secret"}
    assert "secret" not in repr(connection)


def test_ipv6(credentials: Path) -> None:
    connection = in_cluster_connection(ENVIRON | {"KUBERNETES_SERVICE_HOST": "fd00::1"}, credentials)
    assert connection.server == "https://[fd00::1]:443"


def test_the_token_is_read_each_time(credentials: Path) -> None:
    (credentials / "token").write_text("next")
    assert in_cluster_connection(ENVIRON, credentials).headers["Authorization"] == "Bearer next"


def test_outside_of_a_pod(tmp_path: Path) -> None:
    with pytest.raises(errors.ConnectionFailed, match="aren't set"):
        in_cluster_connection({})
    with pytest.raises(errors.ConnectionFailed, match="can't read the service account's credentials"):
        in_cluster_connection(ENVIRON, tmp_path)
