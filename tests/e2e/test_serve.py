"""`serve`, `update`, `rollback` and `scale` of services, over a yard's own address."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.conftest import Refused, Yard
from tests.waiting import until

#: Answers with its version; the GPUs that it got are in its environment.
PROGRAM = """
import http.server, os, sys, time
class Says(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        time.sleep(0.01)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"VERSION")
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Says)
print("listening", flush=True)
server.serve_forever()
"""
BY_QUERY = ("--target-query=up", "--target-value=1")
SERVED = ("--port", "8000", "--readiness", "/healthz")


def programs(yard: Yard) -> None:
    for version in ("v1", "v2"):
        yard.script(f"{version}.py", PROGRAM.replace("VERSION", version))
    yard.script("fails.py", "import sys\nprint('there are no weights', flush=True)\nsys.exit(3)\n")


def ask(address: str) -> str:
    with urllib.request.urlopen(f"{address}/", timeout=30) as answer:
        body: bytes = answer.read()
        return body.decode()


@contextmanager
def asked_all_the_time(address: str) -> Iterator[Counter[str]]:
    """Who answered how often, or how it failed, until the block ends."""
    answers: Counter[str] = Counter()
    ends = threading.Event()

    def work() -> None:
        while not ends.is_set():
            try:
                answers[ask(address)] += 1
            except (OSError, urllib.error.HTTPError) as error:
                answers[repr(error)] += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        ends.set()
        for thread in threads:
            thread.join()


def test_a_service_is_updated_and_taken_back_without_a_lost_request(yard: Yard) -> None:
    programs(yard)
    done = yard.call(
        "serve", "v1.py", "-n", "digits", "--gpus", "1", "--replicas", "2", *SERVED, "-o", "json"
    )
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["name"] == "digits" and said["address"].startswith("http://127.")
    assert "digits: 2/2 replicas ready." in done.err
    with asked_all_the_time(said["address"]) as answers:
        until(lambda: answers["v1"] > 20, "it answers")
        assert "2/2 replicas ready." in yard.call("update", "digits", "v2.py").err
        until(lambda: answers["v2"] > 20, "the new ones answer")
        assert yard.call("rollback", "digits").code == 0
        before = answers["v1"]
        until(lambda: answers["v1"] > before + 20, "the old ones answer again")
    assert set(answers) == {"v1", "v2"}


def test_an_update_that_fails_says_why_and_the_old_ones_go_on(yard: Yard) -> None:
    programs(yard)
    address = json.loads(yard.ok("serve", "v1.py", "-n", "digits", *SERVED, "-o", "json"))["address"]
    failed = yard.call("update", "digits", "fails.py")
    assert failed.code == 1
    assert "keeps ending" in failed.err and "there are no weights" in failed.err
    assert "the earlier replicas go on serving (1 ready)" in failed.err
    assert "gpuyard rollback digits" in failed.err
    assert ask(address) == "v1"
    yard.ok("rollback", "digits")
    assert ask(address) == "v1"


def test_an_update_during_an_update_wins(yard: Yard) -> None:
    programs(yard)
    address = json.loads(yard.ok("serve", "v1.py", "-n", "digits", *SERVED, "-o", "json"))["address"]
    assert yard.call("update", "digits", "fails.py", "-d").code == 0
    assert yard.call("update", "digits", "v2.py").code == 0
    assert ask(address) == "v2"


def test_an_update_without_a_change_takes_the_files_as_they_are_now(yard: Yard) -> None:
    programs(yard)
    address = json.loads(yard.ok("serve", "v1.py", *SERVED, "-o", "json"))["address"]
    yard.script("v1.py", PROGRAM.replace("VERSION", "v3"))
    assert ask(address) == "v1"
    updated = yard.call("update", "v1")
    assert updated.code == 0, updated.err
    assert ask(address) == "v3"
    assert "v1: running" in yard.ok("explain", "v1")


def test_what_somebody_wrote_into_a_service_gets_nothing_of_the_shell_that_updates_it(yard: Yard) -> None:
    programs(yard)
    yard.ok("serve", "v1.py", "-n", "digits", *SERVED, "-d")
    path = "/apis/apps/v1/namespaces/default/deployments/digits"
    deployment = yard.get(path)
    stored = json.loads(deployment["metadata"]["annotations"]["gpuyard.io/spec"])
    stored["spec"]["env"] = {"TAKEN": "${OF_THIS_SHELL}"}
    deployment["metadata"]["annotations"]["gpuyard.io/spec"] = json.dumps(stored)
    yard.api("PUT", path, deployment)
    refused = yard.call("update", "digits", env={"OF_THIS_SHELL": "secret"})
    assert refused.code == 2 and "OF_THIS_SHELL" in refused.err
    assert "secret" not in json.dumps(yard.get(path))


def test_scaling_to_zero_is_taken_back_by_an_update(yard: Yard) -> None:
    programs(yard)
    scaled = ("--replicas", "1..3", "--target-inflight", "4")
    yard.ok("serve", "v1.py", "-n", "digits", *SERVED, *scaled, "--scale-to-zero", "15m", "-d")
    yard.script("digits.yaml", "run: v1.py\nservice: {port: 8000, replicas: 1..2, target: {inflight: 4}}\n")
    updated = yard.call("update", "digits", "-f", "digits.yaml", "-d")
    assert updated.code == 0, updated.err
    row = next(row for row in yard.json("ps") if row["name"] == "digits")
    assert (row["replicas"]["least"], row["replicas"]["most"]) == (1, 2)


def test_a_port_that_another_program_has_is_said(yard: Yard) -> None:
    programs(yard)
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = str(taken.getsockname()[1])
        served = yard.call("serve", "v1.py", "-n", "digits", "--port", port, "--readiness", "/healthz")
        assert served.code == 1
        assert "nobody listens at its address: another program listens on" in served.err
        assert "nobody listens there: another program" in yard.ok("show", "digits")


def test_an_option_changes_that_alone_and_a_scale_stays(yard: Yard) -> None:
    programs(yard)
    yard.ok("serve", "v1.py", "-n", "digits", *SERVED, "--env", "A=1", "-d")
    assert yard.ok("scale", "digits", "3") == "Scaled digits: 1 to 3 replicas.\n"
    assert yard.call("update", "digits", "--env", "B=2").code == 0
    deployment = yard.get("/apis/apps/v1/namespaces/default/deployments/digits")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    env = {one["name"]: one["value"] for one in container["env"]}
    assert (env["A"], env["B"], env["PORT"]) == ("1", "2", "8000")
    assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"
    assert deployment["spec"]["replicas"] == 3


def test_a_range_is_scaled_by_its_load_until_a_number_is_said(yard: Yard) -> None:
    programs(yard)
    load = ("--replicas", "1..3", "--target-inflight", "4", "--scale-to-zero", "15m")
    yard.ok("serve", "v1.py", "-n", "digits", *SERVED, *load, "-d")
    path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/digits"
    autoscaler = yard.get(path)
    assert (autoscaler["spec"]["minReplicas"], autoscaler["spec"]["maxReplicas"]) == (0, 3)
    assert autoscaler["metadata"]["annotations"]["gpuyard.io/scale-to-zero"] == "15m"
    [owner] = autoscaler["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Deployment", "digits")
    refused = yard.call("scale", "digits", "2")
    assert refused.code == 2 and "gpuyard update digits --replicas 1..2" in refused.err
    assert yard.call("update", "digits", "--target-rps", "20").code == 0
    [metric] = yard.get(path)["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "gpuyard_service_requests_per_second"
    assert yard.call("update", "digits", "--replicas", "2").code == 0
    with pytest.raises(Refused):
        yard.get(path)
    assert yard.get("/apis/apps/v1/namespaces/default/deployments/digits")["spec"]["replicas"] == 2


def test_what_goes_with_a_service_goes_with_it(yard: Yard) -> None:
    programs(yard)
    yard.ok("serve", "v1.py", "-n", "digits", *SERVED, "-d")
    paths = (
        "/api/v1/namespaces/default/services/digits",
        "/apis/policy/v1/namespaces/default/poddisruptionbudgets/digits",
    )
    for path in paths:
        [owner] = yard.get(path)["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("Deployment", "digits")
    yard.ok("rm", "--force", "digits")

    def left() -> list[str]:
        found = []
        for path in paths:
            try:
                yard.get(path)
            except Refused:
                continue
            found.append(path)
        return found

    until(lambda: not left(), "they are gone")


def test_a_name_is_of_one_run_or_of_one_service(yard: Yard) -> None:
    programs(yard)
    yard.ok("serve", "v1.py", "-n", "digits", *SERVED, "-d")
    assert "there is a service 'digits' already" in yard.call("run", "-n", "digits", "--", "true").err
    again = yard.call("serve", "v2.py", "-n", "digits", "--port", "80")
    assert again.code == 2 and "gpuyard update digits" in again.err
    yard.ok("run", "-d", "-n", "train", "--", "sleep", "1000")
    assert "there is a run 'train' already" in yard.call("serve", "v1.py", "-n", "train", *SERVED).err
    assert "digits is a service" in yard.call("scale", "digits", "--nodes", "2").err
    assert "gpuyard scale train --nodes 2" in yard.call("scale", "train", "2").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "-f", "service.yaml"), "`gpuyard serve` starts it"),
        (("serve", "-f", "run.yaml"), "this is no service"),
        (("serve", "-f", "service.yaml", "--replicas", "1..4"), "a range needs target"),
        (("serve", "-f", "service.yaml", "--readiness", "healthz"), "must begin with a slash"),
        (("serve", "-f", "service.yaml", "--replicas=1..4", *BY_QUERY), "a yard asks no Prometheus"),
        (("serve", "-f", "service.yaml", "--prometheus", "x"), "is no address of Prometheus"),
        (("update", "nothing", "--env", "A=1"), "no service 'nothing'"),
        (("rollback", "nothing"), "no service 'nothing'"),
        (("scale", "nothing", "3"), "'nothing' in namespace default"),
        (("scale", "nothing"), "Say how many"),
    ],
)  # fmt: skip
def test_misuse_is_told(yard: Yard, words: tuple[str, ...], said: str) -> None:
    yard.script("service.yaml", "name: digits\nrun: v1.py\nservice: {port: 8000}\n")
    yard.script("run.yaml", "run: v1.py\n")
    programs(yard)
    done = yard.call(*words)
    assert done.code == 2 and said in done.err


def test_a_dry_run_prints_what_would_be_sent(yard: Yard) -> None:
    programs(yard)
    done = yard.call("serve", "v1.py", "-n", "digits", *SERVED, "--dry-run", "-o", "json")
    kinds = [one["kind"] for one in json.loads(done.out)["items"]]
    assert kinds == ["Service", "PodDisruptionBudget", "Deployment"]
    assert "digits" not in yard.ok("ps", "-o", "json")
