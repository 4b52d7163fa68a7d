"""`gpuyard logs -f` where connections are cut, containers restart, and pods are deleted."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.cluster.harness.cutting import cutting_proxy
from tests.cluster.shell import ClusterShell
from tests.waiting import until

#: Lines that are alike, lines of many records of the runtime, bytes that are no text, no last newline.
NOISY = r"""
import sys, time
out = sys.stdout.buffer
for number in range(100):
    out.write(b"line %d\n" % (number // 3))
    if number % 50 == 7:
        out.write(b"x%d" % number * 20000 + b"\n")
    out.flush()
    time.sleep(0.05)
out.write(b"\x00\xff end")
sys.exit(9)
"""


def noise() -> str:
    lines = []
    for number in range(100):
        lines.append(f"line {number // 3}\n")
        if number % 50 == 7:
            lines.append(f"x{number}" * 20000 + "\n")
    return "".join(lines) + "\0\udcff end"


@pytest.mark.parametrize("limit_bytes", [None, 100_000])
def test_cut_connections_lose_and_double_nothing(
    target: ClusterShell, tmp_path: Path, limit_bytes: int | None
) -> None:
    target.script("noisy.py", NOISY)
    dice = random.Random(7)
    with cutting_proxy(Path(target.environ["KUBECONFIG"]), tmp_path) as (proxy, kubeconfig):
        command = target.start("run", "-n", "noisy", "noisy.py", env={"KUBECONFIG": str(kubeconfig)})
        until(lambda: "line 0" in command.out, "it prints")
        proxy.limit_bytes = limit_bytes

        def cut() -> bool:
            time.sleep(dice.random() * 0.5)
            proxy.cut()
            return command.process.poll() is not None

        if limit_bytes is None:
            until(cut, "the command ends", timeout_s=600)
        result = command.finish()
        assert proxy.cuts > 0
    assert result.code == 9, result.err
    assert result.out == noise()
    assert target.call("logs", "noisy").out == noise()


def restarting(name: str, image: str, command: str) -> dict[str, object]:
    """A Job as others write it, whose pod starts its container again."""
    container = {
        "name": "main",
        "image": image,
        "command": ["sh", "-c", command],
        "volumeMounts": [{"name": "state", "mountPath": "/state"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"gpuyard.io/run": name}},
        "spec": {
            "backoffLimit": 3,
            "template": {
                "metadata": {"labels": {"gpuyard.io/run": name}},
                "spec": {
                    "restartPolicy": "OnFailure",
                    "tolerations": [{"operator": "Exists"}],
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 1000,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                    "volumes": [{"name": "state", "emptyDir": {}}],
                },
            },
        },
    }


def test_every_start_of_a_container_is_printed_once(target: ClusterShell) -> None:
    lines = "echo x >> /state/n; n=$(wc -l < /state/n); echo start $n; echo alike; [ $n = 2 ] || exit 3; "
    job = restarting("restarts", target.run_options[1], f"{lines}{target.waiting}; echo end")
    target.cluster.kubectl("create", f"-n={target.namespace}", "-f", "-", stdin=job)
    until(lambda: target.json("ps"), "the Job is there")
    first = target.start("logs", "-f", "restarts")
    first.wait_for("start 2")
    # Who comes later gets the start before the present one as well.
    late = target.start("logs", "-f", "restarts")
    late.wait_for("start 2")
    now = target.call("logs", "restarts")
    target.open_gate("restarts")
    whole = "start 1\nalike\nstart 2\nalike\n"
    assert (now.code, now.out, now.err) == (0, whole, "")
    for command in (first, late):
        result = command.finish()
        assert (result.code, result.out) == (0, f"{whole}end\n"), result.err


def test_a_pod_that_is_deleted_is_followed_by_the_next(target: ClusterShell) -> None:
    line = f"echo begin; {target.waiting}; echo end"
    command = target.start("run", "-n", "deleted", "--retries", "1", "--", "sh", "-c", line)
    command.wait_for("begin")
    selector = "--selector=gpuyard.io/run=deleted"
    target.cluster.kubectl("delete", "pod", f"-n={target.namespace}", selector)
    until(lambda: command.out.count("begin") == 2, "the next pod prints")
    target.open_gate("deleted")
    result = command.finish()
    assert (result.code, result.out) == (0, "begin\nbegin\nend\n"), result.err
    assert "── attempt 2 ──" in result.err
