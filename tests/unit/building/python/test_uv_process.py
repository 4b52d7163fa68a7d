from __future__ import annotations

from pathlib import Path

from gpuyard.building.python.uv_process import uv_environ

ENVIRON = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "UV_INDEX_URL": "https://example.com",
    "https_proxy": "http://proxy",
    "LC_ALL": "C",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "INDEX_TOKEN": "token",
    "PYTHONPATH": "/mine",
    "VIRTUAL_ENV": "/venv",
}


def test_uv_gets_what_it_needs_and_no_secrets_of_others() -> None:
    assert uv_environ(ENVIRON).keys() == {"PATH", "HOME", "UV_INDEX_URL", "https_proxy", "LC_ALL"}


def test_variables_that_requirements_name_are_needed(tmp_path: Path) -> None:
    file = tmp_path / "r.txt"
    file.write_text("--extra-index-url https://me:${INDEX_TOKEN}@example.com\n")
    assert uv_environ(ENVIRON, [file, tmp_path / "gone"])["INDEX_TOKEN"] == "token"


def test_a_keyring_has_its_credentials_in_any_variable() -> None:
    found = uv_environ({**ENVIRON, "UV_KEYRING_PROVIDER": "subprocess"})
    assert found["AWS_SECRET_ACCESS_KEY"] == "secret"
    assert "PYTHONPATH" not in found and "VIRTUAL_ENV" not in found
    assert "AWS_SECRET_ACCESS_KEY" not in uv_environ({**ENVIRON, "UV_KEYRING_PROVIDER": "disabled"})
