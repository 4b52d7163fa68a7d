"""A real Kubernetes of two nodes on this machine: brings it up, controls its parts, and unmakes it."""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.harness import images, machine, namespaces, parts
from tests.cluster.harness.namespaces import ClusterError
from tests.cluster.harness.pki import Pki
from tests.cluster.harness.state import Process, State

_ROOT = Path(__file__).parents[3]
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpuyard-test"
#: Where a cluster lives unless it is told otherwise.
DEFAULT_FOLDER = _CACHE / "run"
_LONGEST_FOLDER = 60  # Sockets below it have to stay within 107 bytes.
#: Sent SIGTERM in this order; a part of a node stands for itself on every node.
_STOP_ORDER = (
    "kubelet",
    "kube-proxy",
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
    "containerd",
    "etcd",
    "registry",
    "forward",
)
_STOP_S = 10.0
#: When everything goes, the API server waits longer than that for clients that are gone already.
_LAST_STOP_S = 2.0
_READY_S = 180.0


class Cluster:
    """A cluster in a folder, whoever started it. It belongs to one process at a time.

    Attributes:
        folder: certificates, configuration, logs, the nodes' file systems, and state.json.
        nodes: by name.
    """

    def __init__(self, folder: Path, state: State) -> None:
        self.folder = folder
        self.state = state
        self.nodes = {node.name: node for node in parts.nodes(folder)}

    @classmethod
    def open(cls, folder: Path) -> Cluster | None:
        """The cluster that runs there; None when there is none, or when it isn't whole."""
        state = State.load(folder / "state.json")
        if state is None or not state.ready or state.init is None or not state.init.alive:
            return None
        return cls(folder, state)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "kubeconfig"

    @property
    def registry(self) -> str:
        """HOST:PORT, the same from this machine and from the nodes; plain HTTP."""
        return f"127.0.0.1:{self.state.ports['registry']}"

    @property
    def cgroup(self) -> str:
        """Name of the cluster's cgroup below the root of every hierarchy."""
        return f"gpuyard-cluster-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]}"

    @functools.cached_property
    def version(self) -> str:
        """Of its parts, as they report it: `v1.37.2`."""
        reported = json.loads(self.kubectl("version", "-o=json"))
        return str(reported["serverVersion"]["gitVersion"])

    @property
    def minor(self) -> str:
        """`1.37`."""
        return ".".join(self.version.removeprefix("v").split(".")[:2])

    # What a test does with it.

    def kubectl(self, *arguments: str, stdin: object = None, timeout_s: float = 60) -> str:
        """What kubectl printed.

        Raises:
            ClusterError: it failed.
        """
        done = subprocess.run(
            ["kubectl", *arguments],
            input=json.dumps(stdin) if stdin is not None and not isinstance(stdin, str) else stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self.environment,
            check=False,
        )
        if done.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def get(self, path: str) -> Any:
        """What the API has at this path.

        Raises:
            ClusterError: as `request`.
        """
        return json.loads(self.request("GET", path))

    def request(self, method: str, path: str, body: object = None) -> str:
        """What the API server answers its administrator; it takes a thirtieth of the CPU time of a kubectl.

        Raises:
            ClusterError: it refused, or couldn't be reached.
        """
        content = {"Content-Type": "application/json"} if body is not None else {}
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.state.ports["api"], context=self._tls, timeout=60
        )
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, content)
            response = connection.getresponse()
            answer = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise ClusterError(f"{method} {path}: {error!r}") from None
        finally:
            connection.close()
        if response.status >= 400:
            raise ClusterError(f"{method} {path}: {response.status} {answer}")
        return answer

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        pki = self.folder / "pki"
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        return context

    @property
    def environment(self) -> dict[str, str]:
        """For kubectl: the cluster's own."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.folder), "KUBECONFIG": str(self.kubeconfig)}

    def on_node(self, node: str, *argv: str) -> str:
        """Runs a command as a process of the node's machine."""
        return namespaces.run(self.state.holders[node], *argv)

    def stop(self, part: str, number: int = signal.SIGTERM) -> None:
        """Ends a part (`kubelet@node-a`, `etcd`), and returns when it is gone."""
        process = self.state.parts[part]
        process.signal(number)
        if not _until(lambda: not process.alive, _STOP_S):
            process.signal(signal.SIGKILL)
            _until(lambda: not process.alive, _STOP_S)
        del self.state.parts[part]
        self.state.save()

    def start(self, part: str, *flags: str) -> None:
        """Starts a part that was stopped, with these flags besides. It isn't ready yet when this returns."""
        name, _, node = part.partition("@")
        self._launch(part, [*self._argv(name, node), *flags], self.state.holders[node] if node else None)

    def log(self, part: str) -> str:
        """What a part printed up to now."""
        path = self.folder / "logs" / f"{part}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # How it comes and goes.

    @classmethod
    def up(cls, folder: Path, say: Callable[[str], None]) -> Cluster:
        """The cluster in the folder, started unless it is running; nothing is left of a failed start."""
        if running := cls.open(folder):
            return running
        cls.down(folder)
        if os.geteuid() != 0:
            raise ClusterError("a cluster needs namespaces, mounts and cgroups: run this as root")
        if len(str(folder)) > _LONGEST_FOLDER:
            raise ClusterError(f"{folder} is too long for the sockets in it: name a shorter folder")
        built = _build()
        folder.mkdir(parents=True)
        cluster = cls(folder, State(folder / "state.json"))
        try:
            cluster._up(built, say)
        except BaseException:
            for part in cluster.state.parts:
                say(f"--- {part}\n" + "".join(cluster.log(part).splitlines(keepends=True)[-8:]))
            cls.down(folder)
            raise
        return cluster

    @classmethod
    def down(cls, folder: Path) -> bool:
        """Stops what runs and removes all that was made, the folder too; False when there was nothing."""
        state = State.load(folder / "state.json")
        if state is None:
            # Interrupted before anything but files was made.
            found = folder.exists()
            shutil.rmtree(folder, ignore_errors=True)
            return found
        for name in _STOP_ORDER:
            group = [process for part, process in state.parts.items() if part.partition("@")[0] == name]
            for process in group:
                process.signal(signal.SIGTERM)
            _until(lambda group=group: not any(process.alive for process in group), _LAST_STOP_S)  # type: ignore[misc]
        namespaces.end(folder)
        if state.cgroup:
            machine.remove_cgroups(state.cgroup)
        if not namespaces.folders():  # Else the last one to go puts them back.
            machine.write_sysctls(state.sysctls)
        shutil.rmtree(folder)
        return True

    def _up(self, built: Path, say: Callable[[str], None]) -> None:
        (self.folder / "bin").symlink_to(built)
        (self.folder / "logs").mkdir()
        began = time.monotonic()
        with self._step("namespaces", say):
            self.make_machine()
        with self._step("registry", say):
            self._start_registry()
            images.push_base_images(self.registry, self.folder / "bin" / "coredns")
        with self._step("apiserver", say):
            self._write_configs()
            for part in ("etcd", "kube-apiserver", *(f"containerd@{node}" for node in self.nodes)):
                self.start(part)
            self._wait("kube-apiserver", lambda: self.request("GET", "/readyz") == "ok")
        with self._step("nodes", say):
            for part in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
                self.start(part)
            for node in self.nodes:
                self._wait(
                    f"containerd@{node}", (self.nodes[node].folder / "run/containerd/containerd.sock").exists
                )
                self.start(f"kubelet@{node}")
            self._wait("kubelet@node-a", lambda: self.ready_nodes() == set(self.nodes))
        with self._step("dns", say):
            text = Path(__file__).with_name("dns.yaml").read_text()
            text = text.replace("REGISTRY", self.registry).replace("DNS_ADDRESS", parts.DNS_ADDRESS)
            self.kubectl("apply", "-f", "-", stdin=text)
            self.kubectl("rollout", "status", "-n=kube-system", "deployment/coredns", timeout_s=_READY_S)
        self.state.seconds["all"] = round(time.monotonic() - began, 1)
        self.state.ready = True
        self.state.save()

    @contextmanager
    def _step(self, name: str, say: Callable[[str], None]) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.state.seconds[name] = round(time.monotonic() - began, 1)
        say(f"{name}: {self.state.seconds[name]} s")

    def make_machine(self) -> None:
        """The namespaces and cgroups, before anything runs in them."""
        state = self.state
        # In the file before they are made, so that an interrupt at any point can be undone.
        state.cgroup = self.cgroup
        # Of a machine on which another cluster runs, as they were before that one.
        others = [State.load(other / "state.json") for other in namespaces.folders()]
        known = [other.sysctls for other in others if other]
        state.sysctls = known[0] if known else machine.read_sysctls()
        state.save()
        machine.make_cgroups(state.cgroup, self.nodes)
        state.init = namespaces.start_init(self.folder)
        state.save()
        addresses = "".join(f"ip addr add {node.address}/32 dev lo\n" for node in self.nodes.values())
        # Without a route of any kind the kernel refuses Service addresses before kube-proxy's rules turn them
        # into pods': the API server could call no webhook.
        services = f"ip route add {parts.SERVICE_NETWORK} dev lo\n"
        namespaces.run(
            state.init,
            *("sh", "-e"),
            stdin=f"ip link set lo up\n{addresses}{services}echo 1 >/proc/sys/net/ipv4/ip_forward\n",
        )
        for node in self.nodes.values():
            log = self.folder / "logs" / f"mounts@{node.name}.log"
            state.holders[node.name] = namespaces.hold_mounts(state.init, node.folder, log)
            state.save()

    def _start_registry(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as api,
            socket.create_server(("127.0.0.1", 0)) as registry,
        ):
            self.state.ports = {"api": api.getsockname()[1], "registry": registry.getsockname()[1]}
            targets = {
                api.fileno(): f"{parts.API_ADDRESS}:{parts.API_PORT}",
                registry.fileno(): self.registry,
            }
            argv = [sys.executable, "-I", str(Path(__file__).with_name("forward.py"))]
            self._launch("forward", [*argv, *(f"{fd}={to}" for fd, to in targets.items())], pass_fds=targets)
        config = self.folder / "registry.yaml"
        config.write_text(parts.registry_config(self.folder / "registry", self.state.ports["registry"]))
        self.start("registry")
        self._wait("registry", self._registry_answers)

    def _registry_answers(self) -> bool:
        try:
            return httpx.get(f"http://{self.registry}/v2/", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _write_configs(self) -> None:
        pki = Pki(self.folder / "pki")
        names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        addresses = ["127.0.0.1", parts.API_ADDRESS, parts.API_SERVICE_ADDRESS]
        pki.issue("apiserver", "kube-apiserver", hosts=[*names, *addresses])
        pki.issue("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters")
        # An authority of its own: what it has signed speaks for anybody.
        Pki(self.folder / "pki" / "front-proxy").issue("client", parts.FRONT_PROXY)
        pki.signing_key("service-accounts")
        local = f"https://127.0.0.1:{self.state.ports['api']}"
        pki.kubeconfig(self.kubeconfig, pki.issue("admin", "admin", "system:masters"), local)
        for user in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
            pki.kubeconfig(self._config(user), pki.issue(user, f"system:{user}"), parts.API_URL)
        _write_json(self.folder / "kube-proxy.json", parts.proxy_config(self._config("kube-proxy")))
        for node in self.nodes.values():
            pair = pki.issue(node.name, f"system:node:{node.name}", "system:nodes", [node.name, node.address])
            pki.kubeconfig(self._config(node.name), pair, parts.API_URL)
            config = parts.kubelet_config(node, self.folder / "pki", self.state.cgroup)
            _write_json(self.folder / f"kubelet@{node.name}.json", config)
            # No name servers: there is nothing outside to ask.
            (node.folder / "resolv.conf").write_text("options ndots:1\n")
            (node.folder / "containerd.toml").write_text(parts.containerd_config(self.registry))
            network = node.folder / "etc/cni/net.d/10-bridge.conflist"
            network.parent.mkdir(parents=True)
            network.write_text(parts.cni_config(node))

    def _config(self, user: str) -> Path:
        return self.folder / f"{user}.kubeconfig"

    def _argv(self, name: str, node: str) -> list[str]:
        built, pki = self.folder / "bin", self.folder / "pki"
        if name == "etcd":
            return parts.etcd(built, self.folder / "etcd")
        if name == "registry":
            return ["docker-registry", "serve", str(self.folder / "registry.yaml")]
        if name == "kube-apiserver":
            return parts.apiserver(built, pki)
        if name == "kube-controller-manager":
            return parts.controller_manager(built, pki, self._config(name))
        if name == "kube-scheduler":
            return parts.scheduler(built, self._config(name))
        if name == "kube-proxy":
            return [str(built / name), f"--config={self.folder / 'kube-proxy.json'}"]
        if name == "containerd":
            return [str(built / name), f"--config={self.nodes[node].folder / 'containerd.toml'}"]
        if name == "kubelet":
            config = self.folder / f"kubelet@{node}.json"
            return parts.kubelet(built, self.nodes[node], self._config(node), config)
        raise ClusterError(f"there is no part {name!r}")

    def _launch(
        self, part: str, argv: list[str], where: Process | None = None, pass_fds: object = ()
    ) -> None:
        if part in self.state.parts and self.state.parts[part].alive:
            raise ClusterError(f"{part} is running")
        where = where or self.state.init
        assert where is not None
        self.state.parts[part] = namespaces.start(
            where,
            argv,
            self.folder / "logs" / f"{part}.log",
            environ={"PATH": f"{self.folder / 'bin'}:{namespaces.PATH}"},
            pass_fds=pass_fds,  # type: ignore[arg-type]
        )
        self.state.save()

    def ready_nodes(self) -> set[str]:
        """Names of the nodes whose Ready condition is True."""
        return {
            node["metadata"]["name"]
            for node in self.get("/api/v1/nodes")["items"]
            for condition in node["status"].get("conditions", ())
            if condition["type"] == "Ready" and condition["status"] == "True"
        }

    def _wait(self, part: str, condition: Callable[[], bool]) -> None:
        """Until the condition, which the part is to bring about, is true; as long as all parts live."""

        def answer() -> bool:
            for name, process in self.state.parts.items():
                if not process.alive:
                    raise ClusterError(f"{name} ended: {self.log(name)[-2000:]}")
            try:
                return condition()
            except ClusterError:
                return False

        if not _until(answer, _READY_S):
            raise ClusterError(f"{part} isn't ready after {_READY_S:.0f} s: {self.log(part)[-2000:]}")


def _build() -> Path:
    """The folder of the parts that Debian doesn't have; building them takes a quarter of an hour, once."""
    done = subprocess.run(
        ["nice", str(_ROOT / "tools/cluster/build")], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise ClusterError("the cluster's parts don't build; see above")
    return Path(done.stdout.strip())


def _write_json(path: Path, raw: object) -> None:
    path.write_text(json.dumps(raw, indent=2))


def _until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
