"""What commands say where a real Kubernetes can't be reached, isn't trusted, doesn't know us, or says no."""

from __future__ import annotations

import base64
import shlex
import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpuyard.local.http.server.certificates import Pki
from tests.cluster.gpuyard_on import CONTEXT, Gpuyard
from tests.cluster.installed.users import account, as_user, certificate
from tests.waiting import until

HOUR = timedelta(hours=1)


def server(gpuyard: Gpuyard) -> str:
    return f"https://127.0.0.1:{gpuyard.cluster.state.ports['api']}"


def refused(gpuyard: Gpuyard, code: int, command: str, *words: str) -> str:
    """What a command that fails with this code says."""
    done = gpuyard(command, *words)
    assert done.code == code, done
    assert "Traceback" not in done.err
    return done.err


# -- the way there --------------------------------------------------------------------------------------


def test_nothing_listens(gpuyard: Gpuyard, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    lost, _ = as_user(gpuyard, tmp_path, cluster={"server": f"https://127.0.0.1:{port}"})
    said = refused(lost, 1, "ps")
    assert f"the API at https://127.0.0.1:{port} doesn't answer: nothing listens there" in said
    assert "is the cluster up" in said


def test_a_context_that_is_not_there(gpuyard: Gpuyard) -> None:
    done = gpuyard.run("ps", "--context", "gpuyard-tset")
    assert done.code == 2
    assert f"no context 'gpuyard-tset' in {gpuyard.cluster.kubeconfig}" in done.err
    assert f"did you mean {CONTEXT}? contexts there: {CONTEXT}" in done.err


def test_an_authority_of_another_cluster(gpuyard: Gpuyard, tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    pki.folder.mkdir()
    pki.ensure(datetime.now(UTC))
    other = base64.b64encode(pki.ca_certificate.read_bytes()).decode()
    lost, file = as_user(gpuyard, tmp_path, cluster={"certificate-authority-data": other})
    said = refused(lost, 1, "ps")
    assert f"the API at {server(gpuyard)} can't be trusted" in said
    assert f"certificate-authority-data of cluster 'gpuyard-test' of {file}" in said


def test_a_name_that_is_not_in_the_certificate(gpuyard: Gpuyard, tmp_path: Path) -> None:
    lost, _ = as_user(gpuyard, tmp_path, cluster={"tls-server-name": "elsewhere.example.com"})
    assert "its certificate is for another name" in refused(lost, 1, "ps")
    found, _ = as_user(gpuyard, tmp_path, cluster={"tls-server-name": "kubernetes.default"})
    found.ok("ps")


def test_plain_http_to_a_server_with_tls(gpuyard: Gpuyard, tmp_path: Path) -> None:
    lost, _ = as_user(gpuyard, tmp_path, cluster={"server": server(gpuyard).replace("https", "http")})
    said = refused(lost, 1, "ps")
    assert "speaks TLS only" in said and "write https://" in said


def test_a_server_of_something_else(gpuyard: Gpuyard, tmp_path: Path) -> None:
    address = f"http://{gpuyard.cluster.registry}"
    lost, _ = as_user(gpuyard, tmp_path, cluster={"server": address})
    assert f"what answers at {address} is no Kubernetes API" in refused(lost, 1, "status")


# -- who we are -----------------------------------------------------------------------------------------


def test_a_certificate_that_counts(gpuyard: Gpuyard, tmp_path: Path) -> None:
    """So that the next two fail for their own reasons."""
    bob, _ = as_user(gpuyard, tmp_path, certificate(gpuyard.cluster, ends=HOUR))
    assert bob("ps").code == 0


def test_an_expired_certificate(gpuyard: Gpuyard, tmp_path: Path) -> None:
    bob, file = as_user(gpuyard, tmp_path, certificate(gpuyard.cluster, ends=-HOUR))
    for command in (["ps"], ["run", "--image=a.example.com/b:1", "--", "true"], ["logs", "x"]):
        said = refused(bob, 1, *command)
        assert f"the client certificate of user 'bob' of {file} expired at 2" in said
        assert "get a new kubeconfig" in said


def test_a_certificate_by_a_stranger(gpuyard: Gpuyard, tmp_path: Path) -> None:
    bob, file = as_user(gpuyard, tmp_path, certificate(gpuyard.cluster, ends=HOUR, by_stranger=True))
    said = refused(bob, 1, "ps")
    assert f"it doesn't take the client certificate of user 'bob' of {file}" in said
    assert "another authority" in said


def test_a_token_of_an_account_that_is_gone(gpuyard: Gpuyard, team: str, tmp_path: Path) -> None:
    bob = account(gpuyard, tmp_path, team)
    gpuyard.cluster.kubectl("delete", "serviceaccount", "bob", f"-n={team}")
    said = refused(bob, 1, "ps")
    assert "it doesn't take the token of user 'bob'" in said
    token = (tmp_path / "kubeconfig").read_text().split('"token": "')[1].split('"')[0]
    assert token not in said


def test_no_credentials_at_all(gpuyard: Gpuyard, tmp_path: Path) -> None:
    nobody, _ = as_user(gpuyard, tmp_path, {})
    said = refused(nobody, 1, "ps", "--namespace=default")
    assert "no credentials" in said


def test_a_plugin_that_is_not_installed(gpuyard: Gpuyard, tmp_path: Path) -> None:
    plugin = {"exec": {"command": "no-such-login", "installHint": "get it from the cloud's shop"}}
    bob, file = as_user(gpuyard, tmp_path, plugin)
    said = refused(bob, 2, "ps")
    assert f"{file}: the credential plugin 'no-such-login' of user 'bob' isn't installed" in said
    assert "get it from the cloud's shop" in said


# -- what we may do -------------------------------------------------------------------------------------


def grant(gpuyard: Gpuyard, said: str) -> None:
    """Does as an administrator what a message says."""
    command = next(line for line in said.splitlines() if "kubectl create" in line)
    words = shlex.split(command[command.index("kubectl") :])
    gpuyard.cluster.kubectl(*words[1:])


def test_what_is_forbidden_is_allowed_by_what_is_said(
    gpuyard: Gpuyard, image: str, team: str, tmp_path: Path
) -> None:
    """Reading and then running, each by the role that the refusal names."""
    bob = account(gpuyard, tmp_path, team)
    said = refused(bob, 1, "ps", f"--namespace={team}")
    # Both are asked for at once, and either refusal may be the first.
    forbidden = f'User "system:serviceaccount:{team}:bob" cannot list resource'
    assert f'{forbidden} "jobs"' in said or f'{forbidden} "pods"' in said
    assert f'in the namespace "{team}"' in said and "gpuyard-viewer allows it" in said
    grant(gpuyard, said)
    assert bob.json("ps", f"--namespace={team}") == []
    options = ("--gpus=1", "--name=allowed", f"--namespace={team}")
    words = ("run", f"--image={image}", *options, "--", "echo", "hello")
    said = refused(bob, 1, *words)
    assert "cannot create resource" in said and "gpuyard-submitter allows it" in said
    grant(gpuyard, said)
    # May not look at nodes: the run goes all the same.
    assert bob.ok(*words) == "hello\n"
    bob.ok("rm", "allowed", f"--namespace={team}")


def test_who_may_only_read_is_told_what_it_takes_to_get_into_a_run(
    gpuyard: Gpuyard, image: str, team: str, tmp_path: Path
) -> None:
    bob, there = account(gpuyard, tmp_path, team), f"--namespace={team}"
    binding = ("bob-views", "--clusterrole=gpuyard-viewer", f"--serviceaccount={team}:bob", f"-n={team}")
    gpuyard.cluster.kubectl("create", "rolebinding", *binding)
    gpuyard.ok("run", "-d", "--name=held", there, f"--image={image}", "--gpus=1", "--", "sleep", "600")
    until(lambda: bob.json("show", "held", there)["state"], "it runs", lambda state: state == "running")
    for words, right in (
        (("exec", there, "held", "--", "true"), "pods/exec"),
        (("cp", there, "held:/etc/hostname", "."), "pods/exec"),
        (("attach", there, "held"), "pods/attach"),
        (("forward", there, "held", ":80"), "pods/portforward"),
    ):
        said = refused(bob, 1, *words)
        assert f'bob" cannot get resource "{right}"' in said and "gpuyard-submitter allows it" in said, words
    with bob.in_terminal("shell", there, "--gpus=1", f"--image={image}") as terminal:
        terminal.wait_for('bob" cannot get resource "pods/exec"')
        assert terminal.finish() == 1
    grant(gpuyard, said)
    assert bob.ok("exec", there, "held", "--", "echo", "hello") == "hello\n"


def test_nodes_belong_to_no_namespace(gpuyard: Gpuyard, team: str, tmp_path: Path) -> None:
    bob = account(gpuyard, tmp_path, team)
    said = refused(bob, 1, "nodes")
    assert "at the cluster scope" in said
    assert f"kubectl create clusterrolebinding gpuyard-nodes-{team}-bob" in said


@pytest.mark.parametrize("command", ["install --image=a.example.com/b:1", "uninstall"])
def test_installing_is_for_administrators(gpuyard: Gpuyard, team: str, tmp_path: Path, command: str) -> None:
    bob = account(gpuyard, tmp_path, team)
    said = refused(bob, 1, *command.split())
    assert "cannot list resource" in said and "the rights of cluster-admin" in said


def test_a_namespace_that_is_not_there(gpuyard: Gpuyard, image: str) -> None:
    said = refused(gpuyard, 2, "run", f"--image={image}", "--gpus=1", "--namespace=nowhere", "--", "true")
    assert "there is no namespace 'nowhere'" in said


# -- images that don't come -----------------------------------------------------------------------------


def test_an_image_that_is_not_there_is_refused_or_waited_for(gpuyard: Gpuyard, team: str) -> None:
    registry = gpuyard.cluster.registry
    missing = f"{registry}/nothing/here:1"
    where = (f"--image={missing}", f"--namespace={team}")
    refusal = refused(gpuyard, 2, "run", *where, "--gpus=1", "--", "true")
    assert f"{missing}: not found" in refusal and "--wait submits it all the same" in refusal
    words = (*where, "--gpus=1", "--name=waits", "--wait", "--", "true")
    said: list[str] = []
    with gpuyard.started("run", *words) as process:
        assert process.stderr
        for line in process.stderr:
            said.append(line)
            if line.startswith("waits: starting: image:"):
                process.send_signal(signal.SIGINT)
                break
        said.append(process.stderr.read())
        assert process.wait() == 0
    text = "".join(said)
    assert f"waits: registry {registry} has no {missing}\n  the runtime says: " in text
    assert "not found" in text and "what would help: check name and tag" in text
    assert f"[gpuyard explain waits --context {CONTEXT} --namespace {team}]" in text
    assert "Detached: waits goes on" in text
    (row,) = gpuyard.json("ps", f"--namespace={team}")
    assert (row["state"], row["reason"]) == ("starting", "ImagePull")


def test_a_name_that_is_no_images_is_final(gpuyard: Gpuyard, team: str) -> None:
    """`run` refuses such a name; a Job that came in another way has it all the same."""
    labels = {"gpuyard.io/run": "badname"}
    security = {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    main = {
        "name": "main",
        "image": "registry.example.com/Bad/Name:x",
        "command": ["true"],
        "securityContext": security,
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    template = {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [main]}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "badname", "labels": labels},
        "spec": {"template": template},
    }
    gpuyard.cluster.kubectl("create", f"--namespace={team}", "-f", "-", stdin=job)
    said = refused(gpuyard, 1, "logs", "-f", "badname", f"--namespace={team}")
    assert "'registry.example.com/Bad/Name:x' isn't an image's name" in said
    assert "the runtime says: " in said and "must be lowercase" in said
    assert f"gpuyard rm --force badname --context {CONTEXT} --namespace {team}" in said
    words = (f"--image={main['image']}", f"--namespace={team}", "--", "true")
    assert "is not an image's name" in refused(gpuyard, 2, "run", "--gpus=1", *words)
