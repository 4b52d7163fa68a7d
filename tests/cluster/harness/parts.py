"""How each part of the cluster is configured and called (pure).

What has to be set, and why, was found on a small machine with cgroups v1 and without CAP_SYS_RESOURCE; none
of it harms on a larger one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Of the cluster's network namespace; nothing outside it uses them.
API_ADDRESS = "10.99.0.1"
API_PORT = 6443
POD_NETWORK = "10.88.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"
DOMAIN = "cluster.local"
API_URL = f"https://{API_ADDRESS}:{API_PORT}"
#: Common name of the API server where it hands a request on to another one (the aggregation layer).
FRONT_PROXY = "front-proxy-client"
_ETCD = "http://127.0.0.1:2379"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


@dataclass(frozen=True)
class Node:
    """One node. Its folder stands for fixed paths inside its mount namespace, see `namespaces`."""

    name: str
    address: str
    subnet: str
    bridge: str
    folder: Path

    @property
    def plugins_dir(self) -> Path:
        """/var/lib/kubelet/device-plugins of the node, as seen from outside."""
        return self.folder / "lib/kubelet/device-plugins"

    @property
    def pod_resources_socket(self) -> Path:
        """The kubelet's PodResources API, as seen from outside."""
        return self.folder / "lib/kubelet/pod-resources/kubelet.sock"

    @property
    def cdi_dir(self) -> Path:
        """/var/run/cdi of the node, as seen from outside."""
        return self.folder / "run/cdi"


def nodes(folder: Path) -> tuple[Node, ...]:
    """The two nodes of a cluster."""
    return (
        Node("node-a", "10.99.0.1", "10.88.1.0/24", "yard-a", folder / "node-a"),
        Node("node-b", "10.99.0.2", "10.88.2.0/24", "yard-b", folder / "node-b"),
    )


def etcd(bin: Path, data: Path) -> list[str]:
    """Etcd, durable as in production."""
    return [
        str(bin / "etcd"),
        f"--data-dir={data}",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--log-level=warn",
        "--logger=zap",
    ]


def apiserver(bin: Path, pki: Path) -> list[str]:
    """kube-apiserver, with the admission plugin and the feature gate that GPUs profit from."""
    return [
        str(bin / "kube-apiserver"),
        f"--advertise-address={API_ADDRESS}",
        f"--secure-port={API_PORT}",
        f"--etcd-servers={_ETCD}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction,ExtendedResourceToleration",
        "--feature-gates=ResourceHealthStatus=true",
        "--allow-privileged=true",
        "--profiling=false",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key",
        # Else `kubectl logs` looks the node's name up in DNS.
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
        f"--service-account-key-file={pki}/service-accounts.pub",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        # With these it hands the APIs of others, such as of metrics, on to them.
        f"--proxy-client-cert-file={pki}/front-proxy/client.crt",
        f"--proxy-client-key-file={pki}/front-proxy/client.key",
        f"--requestheader-client-ca-file={pki}/front-proxy/ca.crt",
        f"--requestheader-allowed-names={FRONT_PROXY}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    ]


def controller_manager(bin: Path, pki: Path, kubeconfig: Path) -> list[str]:
    """kube-controller-manager with its usual controllers."""
    return [
        str(bin / "kube-controller-manager"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--authentication-skip-lookup",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--profiling=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={pki}/service-accounts.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
    ]


def scheduler(bin: Path, kubeconfig: Path) -> list[str]:
    """kube-scheduler as it comes."""
    return [
        str(bin / "kube-scheduler"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--authentication-skip-lookup",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--profiling=false",
    ]


def proxy_config(kubeconfig: Path) -> dict[str, Any]:
    """kube-proxy's: one serves both nodes, which share a network namespace."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "mode": "iptables",
        "clusterCIDR": POD_NETWORK,
        "hostnameOverride": "node-a",
        "oomScoreAdj": 0,
        "bindAddress": "127.0.0.1",
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # The limits can only be set from the machine's own network namespace.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def kubelet_config(node: Node, pki: Path, cgroup: str) -> dict[str, Any]:
    """The kubelet's configuration file."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "healthzBindAddress": node.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / f"{node.name}.crt"),
        "tlsPrivateKeyFile": str(pki / f"{node.name}.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": DOMAIN,
        "resolvConf": str(node.folder / "resolv.conf"),
        "featureGates": {"ResourceHealthStatus": True},
        # Devices that come or go show with the next status: 10 s by default, which is long for tests.
        "nodeStatusUpdateFrequency": "1s",
        # Machines with cgroups v1, as this may be.
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        # Its own root: a kubelet removes the cgroups of pods that it doesn't know.
        "cgroupRoot": f"/{cgroup}/{node.name}",
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "evictionHard": {},
        "imageMinimumGCAge": "24h",
        "oomScoreAdj": 0,
        "serializeImagePulls": False,
    }


def kubelet(bin: Path, node: Node, kubeconfig: Path, config: Path) -> list[str]:
    """The kubelet of a node."""
    return [
        str(bin / "kubelet"),
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
    ]


def containerd_config(registry: str) -> str:
    """Config version 3, containerd 2.1 and later."""
    return f"""\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins.'io.containerd.internal.v1.opt']
  path = "/var/lib/containerd/opt"
[plugins.'io.containerd.nri.v1.nri']
  disable = true
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{registry}/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  enable_cdi = true
  cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
  # Without CAP_SYS_RESOURCE no score can be lowered, and runc fails.
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "/etc/cni/net.d"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    SystemdCgroup = false
"""


def cni_config(node: Node) -> str:
    """A bridge per node; the nodes share a network namespace, which routes between the bridges."""
    bridge = {
        "type": "bridge",
        "bridge": node.bridge,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": node.subnet}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": "yard", "plugins": [bridge, portmap]}, indent=2)


def registry_config(data: Path, port: int) -> str:
    """docker-registry's; deleting is on, since those who push may tidy up."""
    return f"""\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {data}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""
