from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.images.registry import credentials
from gpuyard.images.registry.credentials import Credentials, DockerCredentials

_AUTH = base64.b64encode(b"me:pass:word").decode()
_ME = Credentials("me", "pass:word")


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    return tmp_path


def _source(folder: Path, config: object) -> DockerCredentials:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    environ = {"DOCKER_CONFIG": str(folder), "PATH": f"{folder}/bin:/usr/bin:/bin"}
    return DockerCredentials.from_environ(environ)


def _helper(folder: Path, name: str, script: str) -> None:
    path = folder / "bin" / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    "key",
    [
        "reg.example:5000",
        "https://reg.example:5000",
        "http://reg.example:5000/v1/",
        "https://REG.example:5000/v2/",
    ],
)
async def test_a_registry_is_found_however_its_key_is_written(docker: Path, key: str) -> None:
    source = _source(docker, {"auths": {"other": {"auth": "x"}, key: {"auth": _AUTH}}})
    assert await source.find("reg.example:5000") == _ME
    assert await source.find("reg.example") is None


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"])
async def test_docker_hub_has_several_names(docker: Path, key: str) -> None:
    assert await _source(docker, {"auths": {key: {"auth": _AUTH}}}).find("docker.io") == _ME


async def test_entries_come_in_several_forms(docker: Path) -> None:
    entries = {
        "a": {"username": "me", "password": "pass:word"},
        "b": {"identitytoken": "it", "auth": _AUTH},
        "c": {},
        "d": "nonsense",
    }
    source = _source(docker, {"auths": entries, "credHelpers": None})
    assert await source.find("a") == _ME
    assert await source.find("b") == Credentials(identity_token="it")
    assert await source.find("c") is None
    assert await source.find("d") is None


async def test_no_file_means_no_credentials(docker: Path) -> None:
    assert await DockerCredentials.from_environ({"HOME": str(docker)}).find("a") is None


@pytest.mark.parametrize(
    "auth", ["%%%", base64.b64encode(b"hunter2").decode(), base64.b64encode(b"\xff:").decode(), "hünter2"]
)
async def test_damaged_credentials_are_named_and_not_shown(docker: Path, auth: str) -> None:
    with pytest.raises(
        errors.ImageError, match=r"credentials for reg in .*config.json are not base64"
    ) as caught:
        await _source(docker, {"auths": {"reg": {"auth": auth}}}).find("reg")
    assert auth not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "docker login reg" in caught.value.remedy


async def test_a_damaged_file_is_named(docker: Path) -> None:
    with pytest.raises(errors.ImageError, match=r"config.json can't be read: is not JSON"):
        await _source(docker, '{"auths": hunter2').find("reg")
    (docker / "config.json").unlink()
    (docker / "config.json").mkdir()
    with pytest.raises(errors.ImageError, match="Is a directory"):
        await DockerCredentials(docker / "config.json", {}).find("reg")


async def test_a_registrys_helper_comes_before_the_store_and_the_file(docker: Path) -> None:
    answer = '{{"ServerURL":"","Username":"{}","Secret":"s-'
    _helper(docker, "one", f"""read server; echo '{answer.format("one")}'"$server"'"}}'""")
    _helper(docker, "two", f"""read server; echo '{answer.format("<token>")}'"$server"'"}}'""")
    source = _source(
        docker, {"credHelpers": {"a": "one"}, "credsStore": "two", "auths": {"a": {"auth": _AUTH}}}
    )
    assert await source.find("a") == Credentials("one", "s-a")
    assert await source.find("b") == Credentials(identity_token="s-b")
    assert await source.find("docker.io") == Credentials(identity_token="s-https://index.docker.io/v1/")


async def test_a_helper_that_knows_nothing_leaves_it_to_the_file(docker: Path) -> None:
    _helper(docker, "none", "echo 'credentials not found in native keychain'; exit 1")
    source = _source(docker, {"credsStore": "none", "auths": {"a": {"auth": _AUTH}}})
    assert await source.find("a") == _ME
    assert await source.find("b") is None


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo hunter2; exit 3", "failed for a with exit code 3"),
        ("echo hunter2", "answer that can't be read"),
        ("echo '[\"hunter2\"]'", "answer that can't be read"),
    ],
)
async def test_a_failing_helper_is_named_and_its_words_are_not_shown(
    docker: Path, script: str, why: str
) -> None:
    _helper(docker, "bad", script)
    with pytest.raises(errors.ImageError, match=f"docker-credential-bad .*{why}") as caught:
        await _source(docker, {"credsStore": "bad"}).find("a")
    assert "hunter2" not in f"{caught.value}{caught.value.remedy}{caught.value.__cause__}"


async def test_a_helper_that_hangs_is_given_up_with_what_it_started(
    docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "_HELPER_TIMEOUT_S", 0.2)
    _helper(docker, "slow", "sleep 600; echo")
    with pytest.raises(errors.ImageError, match="docker-credential-slow gave no answer within"):
        await _source(docker, {"credsStore": "slow"}).find("a")


async def test_helpers_are_programs_not_commands(docker: Path) -> None:
    with pytest.raises(errors.ImageError, match="docker-credential-gone can't be started: No such file"):
        await _source(docker, {"credsStore": "gone"}).find("a")
    for name in ("../../tmp/x", "x; touch y", ""):
        (docker / "config.json").write_text(json.dumps({"credHelpers": {"a": name}}))
        source = DockerCredentials(docker / "config.json", {"PATH": "/usr/bin"})
        if name:
            with pytest.raises(errors.ImageError, match="can't be a program"):
                await source.find("a")
        else:
            assert await source.find("a") is None


def test_secrets_are_not_in_reprs() -> None:
    assert "hunter2" not in repr(Credentials("me", "hunter2", "hunter2"))
