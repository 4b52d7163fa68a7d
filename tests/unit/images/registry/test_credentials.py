from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.images.registry import credential_helper
from gpuyard.images.registry.credentials import Credentials, StoredCredentials, auth_files

_AUTH = base64.b64encode(b"me:pass:word").decode()
_ME = Credentials("me", "pass:word")


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    return tmp_path


def _source(folder: Path, config: object) -> StoredCredentials:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    environ = {"DOCKER_CONFIG": str(folder), "PATH": f"{folder}/bin:/usr/bin:/bin"}
    return StoredCredentials.from_environ(environ)


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
    assert await StoredCredentials.from_environ({"HOME": str(docker)}).find("a") is None


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
        await StoredCredentials.from_environ({"DOCKER_CONFIG": str(docker)}).find("reg")


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
        ("""echo '{"Username": "me", "Secret": "hunter2"}'; exit 3""", "failed for a with exit code 3"),
        ("echo hunter2", "answer that can't be read"),
        ("echo '[\"hunter2\"]'", "answer that can't be read"),
    ],
)
async def test_a_failing_helper_is_named_and_its_answer_is_not_shown(
    docker: Path, script: str, why: str
) -> None:
    _helper(docker, "bad", script)
    with pytest.raises(errors.ImageError, match=f"docker-credential-bad .*{why}") as caught:
        await _source(docker, {"credsStore": "bad"}).find("a")
    assert "hunter2" not in f"{caught.value}{caught.value.remedy}{caught.value.__cause__}"


async def test_a_helper_that_hangs_is_given_up_with_what_it_started(
    docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_helper, "_TIMEOUT_S", 0.2)
    _helper(docker, "slow", "sleep 600; echo")
    with pytest.raises(errors.ImageError, match="docker-credential-slow gave no answer within"):
        await _source(docker, {"credsStore": "slow"}).find("a")


async def test_helpers_are_programs_not_commands(docker: Path) -> None:
    with pytest.raises(errors.ImageError, match="docker-credential-gone can't be started: No such file"):
        await _source(docker, {"credsStore": "gone"}).find("a")
    for name in ("../../tmp/x", "x; touch y", ""):
        (docker / "config.json").write_text(json.dumps({"credHelpers": {"a": name}}))
        source = StoredCredentials.from_environ({"DOCKER_CONFIG": str(docker), "PATH": "/usr/bin"})
        if name:
            with pytest.raises(errors.ImageError, match="can't be a program"):
                await source.find("a")
        else:
            assert await source.find("a") is None


def test_secrets_are_not_in_reprs() -> None:
    assert "hunter2" not in repr(Credentials("me", "hunter2", "hunter2"))


@pytest.mark.parametrize(
    ("script", "words"),
    [
        # By the protocol a helper tells on standard output why it failed.
        ("echo 'you are logged out: run aws sso login'; exit 1", "you are logged out: run aws sso login"),
        ("echo '  '; echo 'no keychain' >&2; exit 2", "no keychain"),
        ("printf 'one\\ntwo \\033[31mred\\n'; exit 1", r"one two \[31mred"),
        ("printf 'x%.0s' $(seq 5000); exit 1", "x{300}…"),
    ],
)
async def test_a_failing_helper_is_quoted(docker: Path, script: str, words: str) -> None:
    _helper(docker, "out", script)
    with pytest.raises(errors.ImageError) as caught:
        await _source(docker, {"credsStore": "out"}).find("a")
    assert re.search(rf"exit code \d: {words}$", caught.value.message)


def _write(path: Path, config: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))


def _auths(**entries: str) -> dict[str, object]:
    return {
        "auths": {
            key.replace("_", "/"): {"auth": base64.b64encode(f"{user}:x".encode()).decode()}
            for key, user in entries.items()
        }
    }


async def _user(environ: dict[str, str], registry: str = "reg", repository: str = "") -> str:
    found = await StoredCredentials.from_environ(environ).find(registry, repository)
    return found.username if found else ""


async def test_files_are_read_in_the_order_of_podman(tmp_path: Path) -> None:
    """containers-auth.json(5): the run's folder, the user's configuration, Docker's file."""
    home, run, config = tmp_path / "home", tmp_path / "run", tmp_path / "config"
    environ = {"HOME": str(home), "XDG_RUNTIME_DIR": str(run), "XDG_CONFIG_HOME": str(config)}
    _write(home / ".docker" / "config.json", _auths(reg="docker", other="docker"))
    assert await _user(environ) == "docker"
    _write(config / "containers" / "auth.json", _auths(reg="config"))
    assert await _user(environ) == "config"
    _write(run / "containers" / "auth.json", _auths(reg="run"))
    assert await _user(environ) == "run"
    assert await _user(environ, "other") == "docker"
    del environ["XDG_CONFIG_HOME"], environ["XDG_RUNTIME_DIR"]
    _write(home / ".config" / "containers" / "auth.json", _auths(reg="home"))
    assert await _user(environ) == "home"


def test_without_a_folder_of_the_run_the_file_is_the_users_own() -> None:
    assert str(auth_files({"HOME": "/home/me"}, 1234)[0]) == "/run/containers/1234/auth.json"


async def test_a_file_that_is_named_is_the_only_one(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    _write(tmp_path / ".docker" / "config.json", _auths(reg="home"))
    _write(tmp_path / "run" / "containers" / "auth.json", _auths(reg="run"))
    _write(tmp_path / "docker" / "config.json", _auths(reg="docker"))
    _write(tmp_path / "mine.json", _auths(reg="mine"))
    environ["DOCKER_CONFIG"] = str(tmp_path / "docker")
    assert await _user(environ) == "docker"
    environ["REGISTRY_AUTH_FILE"] = str(tmp_path / "mine.json")
    assert await _user(environ) == "mine"
    assert await _user(environ, "other") == ""
    environ["REGISTRY_AUTH_FILE"] = str(tmp_path / "gone.json")
    with pytest.raises(errors.ImageError, match=r"gone.json can't be read: No such file") as caught:
        await _user(environ)
    assert "REGISTRY_AUTH_FILE" in caught.value.remedy


async def test_the_longest_namespace_counts(tmp_path: Path) -> None:
    entries = _auths(reg="all", reg_team="team", reg_team_app="app", reg2_team="two")
    _write(tmp_path / "auth.json", entries)
    environ = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    assert await _user(environ, "reg", "team/app") == "app"
    assert await _user(environ, "reg", "team/app/sub") == "app"
    assert await _user(environ, "reg", "team/apple") == "team"
    assert await _user(environ, "reg", "other/app") == "all"
    assert await _user(environ, "reg") == "all"
    assert await _user(environ, "reg2", "team/x") == "two"
    assert await _user(environ, "reg2", "other") == ""
    assert await _user(environ, "reg2") == ""


async def test_a_namespace_of_docker_hub(tmp_path: Path) -> None:
    entries = {"auths": {"docker.io/me": {"auth": _AUTH}}}
    _write(tmp_path / "auth.json", entries)
    environ = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    assert await _user(environ, "docker.io", "me/app") == "me"
    assert await _user(environ, "docker.io", "library/python") == ""
