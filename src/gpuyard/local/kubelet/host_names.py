"""The names by which pods of this yard find one another: hosts(5) in the place of a cluster's DNS.

Pods that say below which Service their names are (`subdomain`) have a file in common, which is mounted on
their /etc/hosts: the host's own lines, and one for each of them. It only grows while any of them is there, by
whole lines, since it is being read. All pods have the host's address, so that no line becomes wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gpuyard.kube.objects import Manifest
from gpuyard.local.kubelet.environment import POD_IP

_HOSTS = Path("/etc/hosts")
_DOMAIN = "svc.cluster.local"


class HostNames:
    """Keeps these files in a folder of the yard's own.

    Args:
        folder: made when it is needed.
        hosts: the host's own file.
    """

    def __init__(self, folder: Path, hosts: Path = _HOSTS) -> None:
        self._folder = folder
        self._hosts = hosts
        self._pods: dict[Path, set[str]] = {}

    def note(self, old: Manifest | None, new: Manifest | None) -> None:
        """Handler of an informer of pods."""
        pod = new or old
        if pod is None or (file := self._file(pod)) is None:
            return
        uid = pod["metadata"]["uid"]
        pods = self._pods.setdefault(file, set())
        if new is None:
            pods.discard(uid)
            if not pods:
                del self._pods[file]
                file.unlink(missing_ok=True)
        elif uid not in pods:
            pods.add(uid)
            self._add(file, new)

    def hosts_file(self, pod: Manifest) -> Path | None:
        """What is to be the pod's /etc/hosts; None for a pod without such names."""
        file = self._file(pod)
        return file if file is not None and file.exists() else None

    def _file(self, pod: Manifest) -> Path | None:
        spec = pod["spec"]
        if not spec.get("subdomain") or not spec.get("hostname"):
            return None
        return self._folder / f"{pod['metadata']['namespace']}.{spec['subdomain']}"

    def _add(self, file: Path, pod: Manifest) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        line = f"{POD_IP}\t{' '.join(_names(pod))}\n"
        known = ""
        with suppress(FileNotFoundError):
            known = file.read_text()
        if not known:
            with suppress(OSError, UnicodeDecodeError):
                known = self._hosts.read_text().rstrip("\n") + "\n"
            line = known + line
        elif line in known:
            return
        with file.open("a") as hosts:
            # One write, so that no reader sees half a line.
            hosts.write(line)
        # Containers' users read it, too.
        file.chmod(0o644)


def _names(pod: Manifest) -> list[str]:
    """From the longest to the shortest that a resolver in the pod's namespace finds."""
    host, subdomain, namespace = (
        pod["spec"]["hostname"],
        pod["spec"]["subdomain"],
        pod["metadata"]["namespace"],
    )
    below = f"{host}.{subdomain}"
    return [f"{below}.{namespace}.{_DOMAIN}", f"{below}.{namespace}.svc", f"{below}.{namespace}", below, host]


def with_addresses(environment: Mapping[str, str], pod: Manifest) -> dict[str, str]:
    """The environment with the address in the place of such names, where no hosts file can be mounted."""
    subdomain = pod["spec"].get("subdomain")
    if not subdomain:
        return dict(environment)
    name = rf"(?<![\w.-])[a-z0-9-]+\.{re.escape(subdomain)}(?![\w.-])"
    return {key: re.sub(name, POD_IP, value) for key, value in environment.items()}
