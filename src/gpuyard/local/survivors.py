"""What goes on of a yard whose daemon is away, as the files of its pods tell: no API is there to ask."""

from __future__ import annotations

from pathlib import Path

from gpuyard import errors
from gpuyard.local.kubelet.pod_folders import PodFolder, pod_folders
from gpuyard.local.paths import YardPaths
from gpuyard.local.runtime import journal as journals
from gpuyard.local.runtime.procfs import boot_id, read_stat


def live_pods(pods_dir: Path) -> list[str]:
    """Names of the pods with a live process, sorted.

    Args:
        pods_dir: `YardPaths.pods_dir`.
    """
    boot = boot_id()
    try:
        folders = pod_folders(pods_dir).values()
    except OSError:  # another user's
        return []
    return sorted(_name(folder) for folder in folders if _is_alive(folder, boot))


def _is_alive(folder: PodFolder, boot: str) -> bool:
    for container in folder.containers():
        for attempt in folder.attempts(container)[-1:]:
            if _runs(folder.attempt(container, attempt) / journals.JOURNAL, boot):
                return True
    return False


def _runs(path: Path, boot: str) -> bool:
    try:
        journal = journals.read(path)
        if journal is None or journal.boot_id != boot or journal.exit or journal.exit_code is not None:
            return False
        if journal.started is None:
            return journals.is_locked(path)
    except (errors.ProcessError, OSError):
        return False
    now = read_stat(journal.started.pid)
    return now is not None and not now.is_dead and now.start_ticks == journal.started.start_ticks


def _name(folder: PodFolder) -> str:
    record = folder.read_record()
    return record.name if record else folder.path.name


def survivors_text(paths: YardPaths) -> str:
    """`2 of its runs go on (pods a-x7k2q, b-k2x9f)` of a stopped yard; empty when nothing does."""
    pods = live_pods(paths.pods_dir)
    if not pods:
        return ""
    named = ", ".join(pods[:5]) + (", …" if len(pods) > 5 else "")
    one = len(pods) == 1
    return f"{len(pods)} of its runs {'goes' if one else 'go'} on (pod{'' if one else 's'} {named})"
