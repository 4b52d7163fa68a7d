"""What a failed run's own output, or the signal that ended it, says of what went wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from gpuyard import errors
from gpuyard.kube.objects import annotations_of
from gpuyard.kube.pods import container_statuses
from gpuyard.kube.wellknown import ANNOTATION_ISOLATION, ANNOTATION_PYTHONPATH, RUNTIME_CLASS_PROCESS
from gpuyard.runs.run import Run, has_ranks
from gpuyard.runs.target import Target
from gpuyard.workloads.command import is_python, needed_script
from gpuyard.workloads.outcome import Reason
from gpuyard.workloads.run_state import failed_pod

if TYPE_CHECKING:
    from gpuyard.explain.output.diagnosis import Diagnosis
    from gpuyard.explain.output.python import RunPython

_TAIL_LINES = 500
_DEBIAN_PYTHON = Path("/usr/bin/python3")
#: As the yard annotates a process that sees all of its host.
_NOT_ISOLATED = "none"
#: More causes than these are consequences of the first.
_MAX_CAUSES = 3


async def diagnose_run(target: Target, run: Run) -> list[Diagnosis]:
    """The causes that the last attempt's status and the end of its output name; none while it goes on."""
    return diagnose_lines(run, *await read_lines(target, run))


async def read_lines(target: Target, run: Run) -> tuple[list[str], list[str]]:
    """What the last attempt's status says, and the end of its output; nothing while it goes on."""
    if run.state.state not in ("failed", "stopped", "pending", "starting") or not run.pods:
        return [], []
    pod = (failed_pod(run.pods) if has_ranks(run) else None) or run.pods[-1]
    lines: list[str] = []
    started = False
    for status in container_statuses(pod):
        for state in (status.get("state") or {}, status.get("lastState") or {}):
            for detail in state.values():
                lines += str((detail or {}).get("message") or "").splitlines()
            started = started or "terminated" in state
    return lines, await _tail(target, pod["metadata"]["name"]) if started else []


def diagnose_lines(run: Run, said: list[str], printed: list[str]) -> list[Diagnosis]:
    """The causes that these lines of a run name.

    Args:
        run: whose lines they are.
        said: by its containers' status.
        printed: by itself.
    """
    signalled = run.state.reason is Reason.SIGNAL
    if not said and not printed and not signalled:
        return []
    from gpuyard.explain.causes import Cause
    from gpuyard.explain.output.diagnosis import diagnose

    pod = run.job["spec"]["template"]["spec"]
    in_image = pod.get("runtimeClassName") != RUNTIME_CLASS_PROCESS
    found = diagnose([*said, *printed], python=_interpreter(run), in_image=in_image)
    if not found and signalled:
        found = diagnose([run.state.message])
    if any(annotations_of(each).get(ANNOTATION_ISOLATION) == _NOT_ISOLATED for each in run.pods):
        # Its /tmp was the host's.
        found = [each for each in found if each.key is not Cause.OWN_TMP]
    return found[:_MAX_CAUSES]


def _interpreter(run: Run) -> RunPython:
    """What is known of the Python of a run; a process is one of this machine, and so are its files."""
    from gpuyard.explain.output.python import RunPython

    container = run.job["spec"]["template"]["spec"]["containers"][0]
    command, workdir = container.get("command") or [""], Path(container.get("workingDir") or "/")
    script = needed_script(command) or ""
    python = RunPython(
        has_pythonpath=ANNOTATION_PYTHONPATH in annotations_of(run.job),
        find_module=lambda module: _folder_of(module, workdir, script),
    )
    if not is_python(command[0]):
        return python
    own = Path(command[0]).parent.resolve() == _DEBIAN_PYTHON.parent
    return dataclasses.replace(
        python,
        name=command[0],
        other="" if own or not _DEBIAN_PYTHON.exists() else str(_DEBIAN_PYTHON),
        as_module=_as_module(workdir / script, workdir) if script else "",
    )


def _folder_of(module: str, workdir: Path, script: str) -> str:
    """The folder below a run's that has the module, but for the one that its script is in."""
    for folder in (".", "src"):
        place = workdir / folder / module.replace(".", "/")
        if (place.is_dir() or place.with_name(f"{place.name}.py").is_file()) and (
            not script or (workdir / script).parent.resolve() != (workdir / folder).resolve()
        ):
            return folder
    return ""


def _as_module(script: Path, workdir: Path) -> str:
    """What `python -m` calls the script; empty where it can't."""
    if not script.is_relative_to(workdir) or script.suffix != ".py":
        return ""
    parts = script.relative_to(workdir).with_suffix("").parts
    return ".".join(parts) if all(map(str.isidentifier, parts)) else ""


async def _tail(target: Target, pod: str) -> list[str]:
    log = target.api.stream_log(target.namespace, pod, follow=False, tail_lines=_TAIL_LINES)
    try:
        pieces = [piece async for piece in log]
    except errors.GpuyardError:
        # The log may be gone with its node; what the status says is there all the same.
        return []
    return b"".join(pieces).decode(errors="replace").splitlines()
