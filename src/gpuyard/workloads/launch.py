"""How the command of a run in an image is started, and the files that the image lacks for it (pure).

The launcher goes first where GPUs were asked for: it checks that they are there. So it does before a shell,
which doesn't pass signals on: the launcher has what the shell started save when the run is stopped; and where
the run says how it is to be ended. A script
of the submitting machine is always started by it: the launcher makes the modules in the image's working
folder importable, beside which the script isn't. Both files are in one immutable ConfigMap, which is named
after the run and its content and is mounted at `FOLDER`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.kube.references import escape_references
from gpuyard.kube.wellknown import ENV_ALLOW_CPU, ENV_GPUS, LABEL_RUN
from gpuyard.workloads.command import is_python, posix_shell_of, resolve_command
from gpuyard.workloads.gang import is_elastic, is_gang, with_torchrun
from gpuyard.workloads.grace import ends_unused, wants_launcher
from gpuyard.workloads.resolved_run import ResolvedRun, Script

FOLDER = "/etc/gpuyard"
LAUNCHER = f"{FOLDER}/launcher.py"
SCRIPTS = f"{FOLDER}/run"
#: What a ConfigMap holds, all of its values together.
MAX_CONFIG_MAP_BYTES = 1 << 20

_VOLUME = "gpuyard"
_SCRIPT_KEY, _LAUNCHER_KEY = "script", "launcher.py"
_GANG_KEY, _LINES_KEY, _ELASTIC_KEY = "launcher_gang.py", "launcher_lines.py", "launcher_elastic.py"
_GPUS_KEY, _GRACE_KEY = "launcher_gpus.py", "launcher_grace.py"
_IDLE_KEY, _SWEEP_KEY = "launcher_idle.py", "launcher_sweep.py"
_DIGITS = 10
#: Before a command that says nothing of a Python to look with. No part of it is anybody's input.
_BY_PYTHON3 = f'command -v python3 >/dev/null 2>&1 && exec python3 {LAUNCHER} -- "$@"; '
_UNCHECKED = 'echo "gpuyard: no python3 in this image: its GPUs are not checked" >&2; '
_UNSIGNALLED = 'echo "gpuyard: no python3 in this image: no signal is sent before the timeout" >&2; '
_UNENDED = 'echo "gpuyard: no python3 in this image: it goes on when nobody uses it" >&2; '
_UNMET = 'echo "gpuyard: no python3 in this image: it waits for no other pod of the run" >&2; '
_NO_TASKS = 'echo "gpuyard: no python3 in this image: a sweep needs one for its values" >&2; exit 127'


@dataclass(frozen=True)
class Launch:
    """How a run's command starts in its image.

    Attributes:
        command: as Kubernetes takes it.
        config_map: with the files that the image lacks; None where it has all.
        mounts: of the container, for the ConfigMap.
        volumes: of the pod, for the ConfigMap.
    """

    command: Sequence[str]
    config_map: Manifest | None = None
    mounts: Sequence[Manifest] = ()
    volumes: Sequence[Manifest] = ()


def launch(run: ResolvedRun) -> Launch:
    """Decides whether the launcher goes first, whose launcher that is, and what is mounted for it.

    Args:
        run: in an image.
    """
    spec = run.spec
    argv = resolve_command(spec.run, spec.python, spec.shell)
    if run.script is not None:
        python, _, *arguments = argv
        started = [
            escape_references(word) for word in with_torchrun([python, _place(run.script), *arguments], spec)
        ]
        return _mounted(run, [*_with_modules(started[0], run.script), *started])
    command = [escape_references(word) for word in with_torchrun(argv, spec)]
    shell = posix_shell_of(command)
    # A wrapper of the image's base sets what its libraries are found by.
    is_wrapped = bool(run.entrypoint) and not is_python(run.entrypoint[0])
    needed = is_gang(spec) or spec.sweep is not None or ends_unused(spec)
    if not (needed or spec.gpus.count or shell is not None or is_wrapped or wants_launcher(spec)):
        return Launch(command)
    if run.entrypoint:
        # A command takes the place of the image's entry point, and with it of the launcher there.
        launched = command[: len(run.entrypoint)] == list(run.entrypoint)
        return Launch(command if launched else [*run.entrypoint, *command])
    if is_python(command[0]):
        # Its torch is the one that the command would import.
        return _mounted(run, [command[0], LAUNCHER, "--", *command])
    if shell is None and allows_cpu(spec.env) and not needed:
        # An image without a shell can't be started so; whoever has one says that nothing is to be checked.
        return Launch(command)
    lacking = (_UNCHECKED if spec.gpus.count else "") + (_UNSIGNALLED if spec.signal else "")
    lacking += (_UNENDED if ends_unused(spec) else "") + (_UNMET if is_gang(spec) else "")
    script = _BY_PYTHON3 + (_NO_TASKS if spec.sweep is not None else lacking + 'exec "$@"')
    return _mounted(run, [shell or "/bin/sh", "-c", script, "sh", *command])


def allows_cpu(env: Mapping[str, str]) -> bool:
    """Whether an environment says that the run may go on without the GPUs that it asked for."""
    return env.get(ENV_ALLOW_CPU, "").lower() in ("1", "true", "yes")


def _place(script: Script) -> str:
    return f"{SCRIPTS}/{script.name}"


def _with_modules(python: str, script: Script) -> Sequence[str]:
    """The launcher with the folders where the script would find its modules if it lay in the image."""
    beside = PurePosixPath(script.path).parent
    folders = ["."]
    if not beside.is_absolute() and str(beside) != "." and not {":", ".."} & {*str(beside), *beside.parts}:
        folders.insert(0, str(beside))
    return (python, LAUNCHER, "--pythonpath", escape_references(":".join(folders)), "--")


def _mounted(run: ResolvedRun, command: Sequence[str]) -> Launch:
    """The command with the ConfigMap that holds the launcher and the script, if there is one."""
    # What only some runs read would make each run's ConfigMap larger.
    needed = {
        _LAUNCHER_KEY: True,
        _GANG_KEY: is_gang(run.spec),
        _LINES_KEY: is_gang(run.spec),
        _ELASTIC_KEY: is_elastic(run.spec),
        _GPUS_KEY: bool(run.spec.gpus.count) or ENV_GPUS in run.spec.env,
        _GRACE_KEY: wants_launcher(run.spec),
        _IDLE_KEY: ends_unused(run.spec),
        _SWEEP_KEY: run.spec.sweep is not None,
    }
    data = {name: text for name, text in run.launcher.items() if needed.get(name)}
    items = [_item(name, f"{FOLDER}/{name}") for name in data]
    if run.script is not None:
        data[_SCRIPT_KEY] = run.script.text
        items.append(_item(_SCRIPT_KEY, _place(run.script)))
    config_map = _config_map(run, data)
    source = {"name": config_map["metadata"]["name"], "items": items}
    return Launch(
        command,
        config_map,
        mounts=[{"name": _VOLUME, "mountPath": FOLDER, "readOnly": True}],
        volumes=[{"name": _VOLUME, "configMap": source}],
    )


def _item(key: str, path: str) -> dict[str, Any]:
    return {"key": key, "path": path.removeprefix(f"{FOLDER}/")}


def _config_map(run: ResolvedRun, data: Mapping[str, str]) -> Manifest:
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{run.name}-{digest[:_DIGITS]}",
            "namespace": run.namespace,
            "labels": {LABEL_RUN: run.name},
        },
        "immutable": True,
        "data": dict(data),
    }
