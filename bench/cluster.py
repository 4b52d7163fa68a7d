"""On a real Kubernetes of its own: `run` beside kubectl, our agent, and the yard beside the API server."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc

from bench.creates import build_load, load
from bench.image_site import debian
from bench.row import Row, Unavailable
from bench.yard import GPUYARD, environ_for, running_yard
from tests.cluster.harness import namespaces, parts
from tests.cluster.harness.agent import Agent, allocatable, resident_bytes
from tests.cluster.harness.cluster import Cluster
from tests.waiting import until

_CONTEXT = "gpuyard-test"
_NODE = "node-a"
_TIMES = 9
_GPUS = 8
#: An API server with etcd takes about 200 a second.
_CREATES = 2000
_LIMIT_S = 60.0


def measure() -> list[Row]:
    """What the road through a cluster takes, and what our parts on it take."""
    if os.geteuid() != 0:
        raise Unavailable("needs root, for the cluster's namespaces")
    with tempfile.TemporaryDirectory(prefix="gpuyard-bench-", dir="/tmp") as folder:
        work = Path(folder)
        with _cluster(work / "cluster") as cluster:
            return [
                _run(cluster, work),
                _exec(cluster, work),
                *_agent(cluster, work),
                *_installed(cluster, work),
                _creates(cluster),
            ]


@contextlib.contextmanager
def _cluster(folder: Path) -> Iterator[Cluster]:
    try:
        yield Cluster.up(folder, lambda _: None)
    finally:
        Cluster.down(folder)


def _run(cluster: Cluster, work: Path) -> Row:
    """Medians of the time to the first line, by turns."""
    ours, theirs = [], []
    for turn in range(_TIMES + 1):
        name = f"turn-{turn}"
        manifest = work / f"{name}.json"
        manifest.write_text(_gpuyard(cluster, work, *_words(cluster, name, "--dry-run", "--output=json")))
        theirs.append(_seconds(lambda name=name, manifest=manifest: _kubectl_run(cluster, name, manifest)))  # type: ignore[misc]
        cluster.kubectl("delete", "job", name, "--cascade=foreground")
        ours.append(_seconds(lambda name=name: _gpuyard_run(cluster, work, name)))  # type: ignore[misc]
        cluster.kubectl("delete", "job", name, "--cascade=foreground")
    # The first of each fills caches.
    figure, peer = statistics.median(ours[1:]), statistics.median(theirs[1:])
    return Row("run on a cluster, first line", figure, "s", 1.15 * peer, "kubectl create and logs", peer)


def _words(cluster: Cluster, name: str, *more: str) -> list[str]:
    image = f"--image={cluster.registry}/busybox:1"
    return ["run", f"--context={_CONTEXT}", f"--name={name}", image, *more, "--", "echo", "here"]


def _gpuyard(cluster: Cluster, work: Path, *words: str) -> str:
    done = subprocess.run(
        [GPUYARD, *words], env=_environ(cluster, work), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"gpuyard {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def _environ(cluster: Cluster, work: Path) -> dict[str, str]:
    return environ_for(work / "home") | {"KUBECONFIG": str(cluster.kubeconfig)}


def _gpuyard_run(cluster: Cluster, work: Path, name: str) -> None:
    with subprocess.Popen(
        [str(GPUYARD), *_words(cluster, name)],
        env=_environ(cluster, work),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.terminate()


def _kubectl_run(cluster: Cluster, name: str, manifest: Path) -> None:
    cluster.kubectl("create", "-f", str(manifest))
    # Refused while the container is being made.
    until(
        lambda: cluster.kubectl("logs", "-f", f"job/{name}"),
        f"the log of {name}",
        lambda log: log == "here\n",
        not_yet=namespaces.ClusterError,
        timeout_s=_LIMIT_S,
        pause_s=0,
    )


def _exec(cluster: Cluster, work: Path) -> Row:
    """Medians, by turns, with the same kubeconfig."""
    image = f"--image={cluster.registry}/busybox:1"
    _gpuyard(
        cluster, work, "run", f"--context={_CONTEXT}", "-d", "-n", "looked-into", image, "--", "sleep", "600"
    )
    pods = ["pod", "-l", "gpuyard.io/run=looked-into"]
    cluster.kubectl("wait", *pods, "--for=condition=Ready", "--timeout=60s")
    pod = cluster.kubectl("get", *pods, "-o", "name").strip()
    words = ["exec", f"--context={_CONTEXT}", "looked-into", "--", "true"]
    ours, theirs = [], []
    for _ in range(_TIMES + 1):
        theirs.append(_seconds(lambda: cluster.kubectl("exec", pod, "--", "true")))
        ours.append(_seconds(lambda: _gpuyard(cluster, work, *words)))
    figure, peer = statistics.median(ours[1:]), statistics.median(theirs[1:])
    return Row("exec -- true, cluster", figure, "s", 1.2 * peer, "kubectl exec, now", peer)


def _agent(cluster: Cluster, work: Path) -> list[Row]:
    """How long the kubelet takes to see it: of the starts the median, else the slowest."""
    node = cluster.nodes[_NODE]
    socket = node.folder / "lib/kubelet/device-plugins/kubelet.sock"
    agent = Agent(cluster, _NODE, work, f"H100:{_GPUS}")
    starts, returns, memory = [], [], 0
    for _ in range(_TIMES):
        began = time.perf_counter()
        agent.start()
        _until(lambda: _registered(node), "the agent registers")
        starts.append(time.perf_counter() - began)
        assert agent.process is not None
        memory = agent.process.resident_bytes
        cluster.stop(f"kubelet@{_NODE}")
        stopped = time.time()
        cluster.start(f"kubelet@{_NODE}")
        _until(lambda stopped=stopped: _made_at(socket) > stopped, "a new kubelet.sock")  # type: ignore[misc]
        returns.append(_seconds(lambda: _until(lambda: _registered(node), "the agent registers again")))
        agent.stop()
        _until(lambda: not allocatable(node), "the GPUs go")
    nvidia = "NVIDIA's plugin"
    return [
        Row("agent, start to registered", statistics.median(starts), "s", 0.5, nvidia, 0.03),
        Row("kubelet.sock back, registered", max(returns), "s", 1.0, nvidia, 0),
        Row("plugin with 8 GPUs, resident", memory / 1e6, "MB", 60, nvidia, 32),
    ]


def _made_at(socket: Path) -> float:
    try:
        return socket.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _registered(node: parts.Node) -> bool:
    try:
        return len(allocatable(node)) == _GPUS
    except grpc.RpcError:
        return False


def _installed(cluster: Cluster, work: Path) -> list[Row]:
    """The labeller as it is deployed."""
    base, agent = f"{cluster.registry}/debian:12", f"{cluster.registry}/gpuyard/agent:bench"
    _gpuyard(cluster, work, "image", "import", str(debian()), f"--tag={base}")
    _gpuyard(
        cluster, work, "install", f"--context={_CONTEXT}", f"--base={base}", f"--image={agent}",
        f"--simulate=H100:{_GPUS}",
    )  # fmt: skip
    return [Row("labeller with 8 GPUs, resident", resident_bytes(cluster, "labeller") / 1e6, "MB", 60, "", 0)]


def _creates(cluster: Cluster) -> Row:
    """The same client and the same number against both; etcd and SQLite both wait for the disk."""
    program = build_load()
    cluster.kubectl("create", "serviceaccount", "load")
    cluster.kubectl(
        "create", "clusterrolebinding", "load", "--clusterrole=edit", "--serviceaccount=default:load"
    )
    token = cluster.folder / "load.token"
    token.write_text(cluster.kubectl("create", "token", "load"))
    init = cluster.state.init
    assert init is not None
    words = load(program, parts.API_URL, cluster.folder / "pki" / "ca.crt", token, _CREATES)
    # Within the cluster's network, so that nothing stands between.
    theirs: dict[str, Any] = json.loads(namespaces.run(init, *words))
    with running_yard() as yard:
        data_dir = Path(yard.status()["data_dir"])
        words = load(program, yard.status()["api"], data_dir / "pki" / "ca.crt", data_dir / "token", _CREATES)
        ours = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
    if ours["errors"] or theirs["errors"]:
        raise AssertionError(f"{ours['errors']} and {theirs['errors']} of {_CREATES} creates failed")
    peer = theirs["per_s"]
    return Row("durable creates, yard", ours["per_s"], "/s", 2 * peer, "kube-apiserver, now", peer, True)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _until(condition: Callable[[], bool], what: str) -> None:
    until(condition, what, timeout_s=_LIMIT_S, pause_s=0.005)
