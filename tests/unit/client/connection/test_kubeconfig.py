"""Kubeconfigs in each form that clusters hand out, as real files, plugins and certificates."""

from __future__ import annotations

import base64
import json
import os
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.client.connection.credentials import Proof
from gpuyard.client.connection.kubeconfig import (
    Connection,
    context_namespace,
    kubeconfig_files,
    load_connection,
)
from gpuyard.local.http.server.certificates import Pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """A CA and a pair that it signed, which stands for a user's too."""
    folder = tmp_path_factory.mktemp("pki")
    found = Pki(folder)
    found.ensure(datetime.now(UTC))
    return found


def write(
    folder: Path,
    *,
    cluster: Mapping[str, Any] | None = None,
    user: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
) -> Path:
    """A kubeconfig with the context `lab` of cluster `c` and user `u` (JSON is YAML)."""
    file = folder / "config"
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "lab", "context": {"cluster": "c", "user": "u", **(context or {})}}],
    }
    file.write_text(json.dumps(document))
    return file


def load(file: Path) -> Connection:
    return load_connection([file], "lab")


def authorities(connection: Connection) -> list[str]:
    """Common names of the CAs that it trusts."""
    assert connection.tls
    cas: list[Any] = connection.tls.get_ca_certs()
    subjects = [dict(pair for part in ca["subject"] for pair in part) for ca in cas]
    return [subject.get("commonName", "") for subject in subjects]


def encoded(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def test_the_authority_as_data_and_as_a_file_beside_the_kubeconfig(tmp_path: Path, pki: Pki) -> None:
    data = load(write(tmp_path, cluster={"certificate-authority-data": encoded(pki.ca_certificate)}))
    assert authorities(data) == ["gpuyard yard CA"]
    (tmp_path / "ca.crt").write_bytes(pki.ca_certificate.read_bytes())
    file = load(write(tmp_path, cluster={"certificate-authority": "ca.crt"}))
    assert authorities(file) == ["gpuyard yard CA"]
    for connection in (data, file):
        assert connection.tls
        assert connection.tls.verify_mode == ssl.CERT_REQUIRED and connection.tls.check_hostname


def test_without_an_authority_the_machines_own_count(tmp_path: Path) -> None:
    connection = load(write(tmp_path))
    assert connection.tls and connection.tls.verify_mode == ssl.CERT_REQUIRED
    assert "gpuyard yard CA" not in authorities(connection)


def test_insecure_is_only_what_says_so(tmp_path: Path) -> None:
    connection = load(write(tmp_path, cluster={"insecure-skip-tls-verify": True}))
    assert connection.tls
    assert connection.tls.verify_mode == ssl.CERT_NONE and not connection.tls.check_hostname


def test_plain_http_has_no_tls(tmp_path: Path) -> None:
    assert load(write(tmp_path, cluster={"server": "http://127.0.0.1:8001"})).tls is None


@pytest.mark.parametrize("form", ["data", "file"])
def test_a_pair_that_does_not_fit_is_refused(tmp_path: Path, pki: Pki, form: str) -> None:
    """The certificate is loaded with its key, whichever way they come."""
    pairs = {"client-certificate": pki.server_certificate, "client-key": pki.server_key}
    wrong = {"client-certificate": pki.server_certificate, "client-key": pki.ca_key}

    def user(files: Mapping[str, Path]) -> dict[str, str]:
        if form == "file":
            return {key: str(file) for key, file in files.items()}
        return {f"{key}-data": encoded(file) for key, file in files.items()}

    load(write(tmp_path, user=user(pairs)))
    with pytest.raises(errors.UsageError, match="the certificates can't be used"):
        load(write(tmp_path, user=user(wrong)))


def test_token_and_token_file(tmp_path: Path) -> None:
    connection = load(write(tmp_path, user={"token": "secret", "tokenFile": "nowhere"}))
    assert connection.headers == {"Authorization": "Bearer secret"}
    assert "secret" not in repr(connection)
    (tmp_path / "token").write_text("of the file\n")
    assert load(write(tmp_path, user={"tokenFile": "token"})).headers == {
        "Authorization": "Bearer of the file"
    }
    assert load(write(tmp_path)).headers == {}


def test_a_plugin_beside_the_kubeconfig(tmp_path: Path) -> None:
    user = plugin(tmp_path, """echo '{"status": {"token": "near"}}'""")
    user["exec"]["command"] = "./plugin"
    assert load(write(tmp_path, user=user)).headers == {"Authorization": "Bearer near"}


@pytest.mark.parametrize(
    ("user", "proof"),
    [
        ({}, Proof.NONE),
        ({"token": "secret"}, Proof.TOKEN),
        ({"username": "ann", "password": "secret"}, Proof.PASSWORD),
        ({"exec": {"command": "/bin/echo", "args": ['{"status": {"token": "secret"}}']}}, Proof.PLUGIN),
    ],
)
def test_where_it_comes_from_is_kept(tmp_path: Path, user: dict[str, Any], proof: Proof) -> None:
    file = write(tmp_path, user=user)
    origin = load(file).origin
    assert origin and origin.proof is proof and "secret" not in repr(origin)
    assert (origin.cluster_text, origin.user_text) == (f"cluster 'c' of {file}", f"user 'u' of {file}")


def test_a_namespace_is_found_without_the_plugin(tmp_path: Path) -> None:
    plugin = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/no/such"}}
    file = write(tmp_path, user=plugin, context={"namespace": "team"})
    assert context_namespace([file], "lab") == "team"
    with pytest.raises(errors.UsageError, match="no context 'other'"):
        context_namespace([file], "other")


def test_namespace_and_proxy(tmp_path: Path) -> None:
    plain = load(write(tmp_path))
    assert (plain.server, plain.namespace, plain.proxy) == ("https://10.0.0.1:6443", "default", None)
    proxied = write(tmp_path, cluster={"proxy-url": "http://p:3128"}, context={"namespace": "team"})
    assert (load(proxied).namespace, load(proxied).proxy) == ("team", "http://p:3128")


def test_a_context_without_a_user_has_no_credentials(tmp_path: Path) -> None:
    assert load(write(tmp_path, user={"token": "secret"}, context={"user": ""})).headers == {}


def plugin(folder: Path, script: str, **more: Any) -> dict[str, Any]:
    """A user whose credentials come from a script."""
    program = folder / "plugin"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program), **more}}


def test_an_exec_plugin_gives_the_token(tmp_path: Path) -> None:
    script = """cat > /dev/null; printf %s "$KUBERNETES_EXEC_INFO" > "$PLACE/info"
    echo "{\\"kind\\": \\"ExecCredential\\", \\"status\\": {\\"token\\": \\"$1-$2\\"}}" """
    user = plugin(tmp_path, script, args=["a", 2], env=[{"name": "PLACE", "value": str(tmp_path)}])
    assert load(write(tmp_path, user=user)).headers == {"Authorization": "Bearer a-2"}
    assert json.loads((tmp_path / "info").read_text()) == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }


@pytest.mark.parametrize(
    ("script", "more", "said", "remedy"),
    [
        ("echo log in first >&2; exit 3", {}, "'u' failed with exit code 3", "log in first"),
        ("exit 3", {"installHint": "install it"}, "failed", "install it"),
        ("echo no json", {}, "gave no ExecCredential", "run it by hand: is it the right program?"),
        ("echo '{}'", {}, "gave no ExecCredential", "run it by hand: is it the right program?"),
        ("""echo '{"status": {}}'""", {}, "gave no token", ""),
        (
            "",
            {"command": "/nowhere/plugin", "installHint": "get it"},
            "/nowhere/plugin' of user 'u' isn't installed",
            "get it",
        ),
        (
            "",
            {"command": "no-such-plugin"},
            "isn't installed",
            "install it, and put it on PATH (no-such-plugin)",
        ),
    ],
)
def test_an_exec_plugin_that_fails(
    tmp_path: Path, script: str, more: dict[str, Any], said: str, remedy: str
) -> None:
    file = write(tmp_path, user=plugin(tmp_path, script, **more))
    with pytest.raises(errors.UsageError, match=said) as caught:
        load(file)
    assert str(file) in caught.value.message and caught.value.remedy == remedy


def test_yaml_says_what_json_does_and_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    written = load(write(tmp_path, context={"namespace": "team"}))
    file = tmp_path / "config"
    file.write_text(
        "# of a cloud\n"
        "clusters:\n- name: c\n  cluster:\n    server: https://10.0.0.1:6443\n"
        "users:\n- name: u\n  user: {}\n"
        "contexts:\n- name: lab\n  context: {cluster: c, user: u, namespace: team}\n"
    )
    assert (load(file).server, load(file).namespace) == (written.server, written.namespace)
    file.write_text(file.read_text().replace("namespace: team", "namespace: other"))
    assert context_namespace([file], "lab") == load(file).namespace == "other"


def test_files_are_merged_and_the_first_wins(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "token").write_text(folder.name)
    first = write(one, user={"tokenFile": "token"})
    second = write(two, user={"tokenFile": "token"}, cluster={"server": "http://second"})
    documents = json.loads(second.read_text())
    documents["contexts"].append({"name": "other", "context": {"cluster": "c2", "user": "u2"}})
    documents["clusters"].append({"name": "c2", "cluster": {"server": "http://third"}})
    documents["users"].append({"name": "u2", "user": {"tokenFile": "token"}})
    second.write_text(json.dumps(documents))
    files = [first, tmp_path / "not there", second]
    assert load_connection(files, "lab").server == "https://10.0.0.1:6443"
    assert load_connection(files[::-1], "lab").server == "http://second"
    # Each file's paths start from its own folder.
    assert load_connection(files, "lab").headers == {"Authorization": "Bearer one"}
    other = load_connection(files, "other")
    assert (other.server, other.headers) == ("http://third", {"Authorization": "Bearer two"})


def test_a_context_may_be_in_another_file_than_its_cluster(tmp_path: Path) -> None:
    contexts, rest = tmp_path / "contexts", tmp_path / "rest"
    contexts.write_text("contexts: [{name: lab, context: {cluster: c}}]\nusers:\n")
    rest.write_text("clusters: [{name: c, cluster: {server: http://there}}]\n")
    assert load_connection([contexts, rest], "lab").server == "http://there"


def test_which_files_are_read(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    assert kubeconfig_files(environ) == [tmp_path / ".kube" / "config"]
    assert kubeconfig_files(environ | {"KUBECONFIG": ""}) == [tmp_path / ".kube" / "config"]
    several = os.pathsep.join(("/a", "", "b"))
    assert kubeconfig_files(environ | {"KUBECONFIG": several}) == [Path("/a"), Path("b")]


def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    file = write(tmp_path)
    with pytest.raises(errors.UsageError, match=f"no context 'home' in {file}") as caught:
        load_connection([file], "home")
    assert "contexts there: lab;" in caught.value.remedy
    with pytest.raises(errors.UsageError) as caught:
        load_connection([file], "labs")
    assert caught.value.remedy.startswith("did you mean lab? contexts there: lab;")
    with pytest.raises(errors.UsageError, match=f"no kubeconfig.*{tmp_path}/nowhere isn't there"):
        load_connection([tmp_path / "nowhere"], "lab")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a: [", "is not YAML"),
        (b"{a: " * 3000, "is nested too deeply"),
        (b"\xff\xfe\xfa", "can't read the kubeconfig"),
        (b"- a", "is not a kubeconfig"),
        (b"", "is not a kubeconfig"),
        (b"contexts: [{context: {}}]", "an entry of contexts has no name"),
        (b"clusters: [c]", "an entry of clusters has no name"),
    ],
)
def test_a_file_that_is_no_kubeconfig(tmp_path: Path, text: bytes, said: str) -> None:
    file = tmp_path / "config"
    file.write_bytes(text)
    with pytest.raises(errors.UsageError, match=said) as caught:
        load(file)
    assert str(file) in caught.value.message


def test_a_folder_is_no_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match=f"can't read the kubeconfig {tmp_path}"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"cluster": {"server": ""}}, "server is missing"),
        ({"cluster": {"server": 6443}}, "server is missing"),
        ({"context": {"cluster": "x"}}, "names 'x', which is not among the clusters"),
        ({"context": {"user": "x"}}, "names 'x', which is not among the users"),
        ({"cluster": {"certificate-authority-data": "%%"}}, "certificate-authority-data is not base64"),
        ({"cluster": {"certificate-authority-data": "aGVsbG8="}}, "the certificates can't be used"),
        ({"cluster": {"certificate-authority": "ca.crt"}}, "certificate-authority can't be read"),
        ({"user": {"client-certificate": "u.crt"}}, "client-certificate can't be read"),
        ({"user": {"client-key-data": 7}}, "client-key-data is not base64"),
        ({"user": {"tokenFile": "token"}}, "tokenFile can't be read"),
    ],
)
def test_fields_that_can_not_be_used(tmp_path: Path, parts: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.UsageError, match=said):
        load(write(tmp_path, **parts))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("contexts: 3", "contexts is not a list"),
        ("contexts: [{name: [a], context: {}}]", "an entry of contexts has no name"),
        ("contexts: [{name: lab, context: x}]", "context 'lab' is not a mapping"),
    ],
)
def test_sections_of_another_shape_are_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(errors.UsageError, match=says):
        load_connection([file], "lab")


@pytest.mark.parametrize(
    ("user", "says"),
    [
        ("exec: oidc", "exec is not a mapping"),
        ("exec: {command: /bin/true, env: [{name: A}]}", "lacks its name or value"),
        ("exec: {command: /bin/echo, args: ['{\"status\": null}']}", "gave no token"),
        ("exec: {command: /bin/echo, args: ['[]']}", "gave no ExecCredential"),
        ("auth-provider: {name: gcp}", "the user 'u' has an auth-provider"),
        (
            "exec: {command: /bin/echo, args: ['{\"status\": {\"clientCertificateData\": \"x\"}}']}",
            "can't use yet",
        ),
        ("tokenFile: \"a\\0b\"", "tokenFile can't be read"),
        ("client-certificate-data: eA==", "belong together"),
    ],
)  # fmt: skip
def test_credentials_of_another_shape_are_told(tmp_path: Path, user: str, says: str) -> None:
    file = tmp_path / "config"
    file.write_text(
        "contexts: [{name: lab, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        f"users:\n- name: u\n  user:\n    {user}\n"
    )
    with pytest.raises(errors.UsageError, match=says):
        load_connection([file], "lab")
