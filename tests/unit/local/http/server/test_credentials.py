from __future__ import annotations

import base64
import stat
from pathlib import Path

import orjson
import pytest

from gpuyard import errors
from gpuyard.local.http.server.credentials import load_or_make_token, write_kubeconfig


def test_a_token_is_made_once(tmp_path: Path) -> None:
    file = tmp_path / "token"
    token = load_or_make_token(file)
    assert len(bytes.fromhex(token)) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_or_make_token(file) == token


@pytest.mark.parametrize("content", [None, b"", b"short\n", b"z" * 64, b"\xff" * 64])
def test_a_lost_or_damaged_token_is_made_anew(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    first = load_or_make_token(file)
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    second = load_or_make_token(file)
    assert second != first
    assert load_or_make_token(file) == second


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("a" * 64)
    (tmp_path / "elsewhere").chmod(0o600)
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.YardError, match="is a symbolic link"):
        load_or_make_token(tmp_path / "token")


def test_a_folder_in_the_place_of_the_token(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir(mode=0o700)
    with pytest.raises(errors.YardError, match="is no file"):
        load_or_make_token(tmp_path / "token")


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    load_or_make_token(file)
    file.chmod(0o644)
    with pytest.raises(errors.YardError, match="mode 644") as caught:
        load_or_make_token(file)
    assert "remove the file" in caught.value.remedy


def test_the_kubeconfig_carries_all_that_kubectl_needs(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    for port in (1, 6443):
        write_kubeconfig(file, port=port, ca_pem=b"PEM", token="t0ken")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    config = orjson.loads(file.read_bytes())
    assert config["current-context"] == "gpuyard"
    [context] = config["contexts"]
    assert context["name"] == "gpuyard"
    [cluster] = config["clusters"]
    assert cluster["name"] == context["context"]["cluster"]
    assert cluster["cluster"]["server"] == "https://127.0.0.1:6443"
    assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == b"PEM"
    [user] = config["users"]
    assert (user["name"], user["user"]) == (context["context"]["user"], {"token": "t0ken"})
