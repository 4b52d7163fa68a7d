"""Engines as they are installed: programs that were built from their modules, and the manifests in these."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.gpuyard_on import Gpuyard
from tests.cluster.harness.images import layer
from tests.cluster.harness.namespaces import ClusterError

_TOOLS = Path(__file__).parents[2] / "tools/engines"
#: Of no user of this machine: what says `runAsNonRoot` runs as somebody, and images made here name nobody.
_USER = 65532
_READY_S = 180


@dataclass(frozen=True)
class Engine:
    """One of `tools/engines`, on a cluster.

    Attributes:
        name: of its folder there.
        module: the Go module that it comes from, with its manifests.
        namespace: that these put it into.
        folder: for what is made on the way.
    """

    gpuyard: Gpuyard
    name: str
    module: str
    namespace: str
    folder: Path

    def image(self, program: str, path: str) -> str:
        """An image with nothing but a program that was built, at a path in it; gives its reference."""
        built = Path(_output(["nice", str(_TOOLS / "build"), self.name]))
        tar = self.folder / f"{program}.tar"
        tar.write_bytes(layer({path: built / program}))
        reference = f"{self.gpuyard.cluster.registry}/{self.name}/{program}:1"
        done = self.gpuyard.run("image", "import", str(tar), f"--tag={reference}")
        assert done.code == 0, done
        tar.unlink()
        return reference

    def install(
        self,
        manifests: Sequence[str],
        images: Mapping[str, str],
        *,
        arguments: Sequence[str] = (),
        without: Sequence[str] = (),
    ) -> None:
        """Installs it; returns when its kinds are served and its Deployments available.

        Args:
            manifests: folders of the module that kustomize reads.
            images: of the first container of each Deployment.
            arguments: that this container has instead of its own.
            without: Deployments that stay empty.
        """
        cluster = self.gpuyard.cluster
        source = Path(_output(["go", "list", "-m", "-f", "{{.Dir}}", self.module], self.name))
        overlay = {
            "resources": [os.path.relpath(source / path, self.folder) for path in manifests],
            "replicas": [{"name": name, "count": 0} for name in without],
            "patches": [_patch(name, image, arguments) for name, image in images.items()],
        }
        (self.folder / "kustomization.yaml").write_text(json.dumps(overlay))
        made = cluster.kubectl("create", "namespace", self.namespace, "--dry-run=client", "-o=json")
        cluster.kubectl("apply", "--server-side", "-f", "-", stdin=made)
        # What another applies as well, such as a certificate of its own, is its to change.
        apply = ("apply", "--server-side", "--force-conflicts", "-k", str(self.folder))
        cluster.kubectl(*apply, timeout_s=_READY_S)
        cluster.kubectl("wait", "crds", "--all", "--for=condition=Established", "--timeout=50s")
        for name in images:
            deployment = (f"--namespace={self.namespace}", f"deployment/{name}")
            try:
                cluster.kubectl("rollout", "status", *deployment, timeout_s=_READY_S)
            except subprocess.TimeoutExpired:
                said = cluster.kubectl("describe", "pods", f"--namespace={self.namespace}")
                said += cluster.kubectl("logs", "--tail=20", *deployment)
                raise ClusterError(f"{self.name}: {name} isn't available: {said}") from None


def _patch(deployment: str, image: str, arguments: Sequence[str]) -> dict[str, object]:
    template = "/spec/template/spec"
    changes: list[dict[str, object]] = [
        {"op": "replace", "path": f"{template}/containers/0/image", "value": image},
        {"op": "add", "path": f"{template}/securityContext/runAsUser", "value": _USER},
    ]
    if arguments:
        changes.append({"op": "add", "path": f"{template}/containers/0/args", "value": list(arguments)})
    return {"target": {"kind": "Deployment", "name": deployment}, "patch": json.dumps(changes)}


def _output(argv: Sequence[str], engine: str = ".") -> str:
    done = subprocess.run(argv, cwd=_TOOLS / engine, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()
