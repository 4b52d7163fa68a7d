"""What travels to an image with its run: a script, and the launcher where the image has none (pure).

Both are in one immutable ConfigMap, which is named by the run and by its content and mounted at `FOLDER`.
A script is always started by the launcher, whether GPUs were asked for or not: the launcher makes the modules
in the image's working folder importable, beside which the script isn't.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.kube.quantity import to_int
from gpuyard.kube.references import escape_references
from gpuyard.kube.wellknown import ENV_ALLOW_CPU, GPU_RESOURCE, LABEL_RUN
from gpuyard.workloads.command import is_python

FOLDER = "/etc/gpuyard"
LAUNCHER = f"{FOLDER}/launcher.py"
SCRIPTS = f"{FOLDER}/run"
#: What a ConfigMap holds, all of its values together.
MOST_BYTES = 1 << 20

_VOLUME = "gpuyard"
_SCRIPT_KEY, _LAUNCHER_KEY = "script", "launcher.py"
_DIGITS = 10
#: Before a command that says nothing of a Python to look with. No part of it is anybody's input.
_BY_SHELL = (
    "/bin/sh",
    "-c",
    f'command -v python3 >/dev/null 2>&1 && exec python3 {LAUNCHER} -- "$@"; '
    'echo "gpuyard: no python3 in this image: its GPUs are not checked" >&2; exec "$@"',
    "sh",
)


@dataclass(frozen=True)
class Script:
    """A script of the machine that submits.

    Attributes:
        path: as the run names it.
        text: what is in it.
    """

    path: str
    text: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.path).name


def carry(
    job: Manifest, script: Script | None, launcher: str, entrypoint: Sequence[str] = ()
) -> list[Manifest]:
    """What is to be created of a run in an image: the Job, and before it the ConfigMap where it needs one.

    Args:
        job: as `render` made it; stays as it is.
        script: the one that the run's first word names, where it is to travel.
        launcher: the launcher's text.
        entrypoint: of the image, where that is gpuyard's launcher.
    """
    job = copy.deepcopy(job)
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    command = container["command"]
    if script is None and entrypoint:
        if asks_for_gpus(container) and command[: len(entrypoint)] != list(entrypoint):
            container["command"] = [*entrypoint, *command]
        return [job]
    before = _before(container) if script is None else _before_script(script, command[0])
    if not before:
        return [job]
    data = {_LAUNCHER_KEY: launcher}
    items = [{"key": _LAUNCHER_KEY, "path": _below(LAUNCHER)}]
    if script is not None:
        data[_SCRIPT_KEY] = script.text
        place = f"{SCRIPTS}/{script.name}"
        items.append({"key": _SCRIPT_KEY, "path": _below(place)})
        command = [command[0], escape_references(place), *command[2:]]
    config_map = _config_map(job, data)
    container["command"] = [*before, *command]
    mount = {"name": _VOLUME, "mountPath": FOLDER, "readOnly": True}
    container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]
    source = {"name": config_map["metadata"]["name"], "items": items}
    pod["volumes"] = [*(pod.get("volumes") or ()), {"name": _VOLUME, "configMap": source}]
    return [config_map, job]


def asks_for_gpus(container: Mapping[str, Any]) -> bool:
    """Whether GPUs are among a container's limits."""
    limits = (container.get("resources") or {}).get("limits") or {}
    return to_int(limits.get(GPU_RESOURCE, "0")) > 0


def allows_cpu(container: Mapping[str, Any]) -> bool:
    """Whether a container's environment says that it may go on without the GPUs it asked for."""
    env = {variable["name"]: variable.get("value", "") for variable in container.get("env") or ()}
    return env.get(ENV_ALLOW_CPU, "").lower() in ("1", "true", "yes")


def _before(container: Mapping[str, Any]) -> Sequence[str]:
    """What starts a command by way of the launcher; nothing where there is nothing to check."""
    if not asks_for_gpus(container):
        return ()
    python = container["command"][0]
    if is_python(python):
        # Its torch is the one that the command would import.
        return (python, LAUNCHER, "--")
    allowed = allows_cpu(container)
    # An image without a shell can't be started so; whoever has one says that nothing is to be checked.
    return () if allowed else _BY_SHELL


def _before_script(script: Script, python: str) -> Sequence[str]:
    """The launcher with the folders where the script would find its modules if it lay in the image."""
    beside = PurePosixPath(script.path).parent
    folders = ["."]
    if not beside.is_absolute() and str(beside) != "." and not {":", ".."} & {*str(beside), *beside.parts}:
        folders.insert(0, str(beside))
    return (python, LAUNCHER, "--pythonpath", escape_references(":".join(folders)), "--")


def _config_map(job: Manifest, data: Mapping[str, str]) -> Manifest:
    name = job["metadata"]["name"]
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{name}-{digest[:_DIGITS]}",
            "namespace": job["metadata"]["namespace"],
            "labels": {LABEL_RUN: name},
        },
        "immutable": True,
        "data": dict(data),
    }


def _below(path: str) -> str:
    return path.removeprefix(f"{FOLDER}/")
