"""What is written on a Job or a Deployment of where its pods come from (pure)."""

from __future__ import annotations

from gpuyard.kube.wellknown import (
    ANNOTATION_COMMAND,
    ANNOTATION_PYTHONPATH,
    ANNOTATION_SNAPSHOT,
    ANNOTATION_SUBMITTED_AT,
)
from gpuyard.workloads.command import display
from gpuyard.workloads.resolved_run import ResolvedRun


def provenance(run: ResolvedRun) -> dict[str, str]:
    """Annotations: the command, when it was submitted, and what it took over from the shell or didn't."""
    annotations = {ANNOTATION_COMMAND: display(run.spec.run)}
    if run.submitted_at is not None:
        annotations[ANNOTATION_SUBMITTED_AT] = run.submitted_at.isoformat(timespec="microseconds")
    if run.host and run.host.snapshot:
        annotations[ANNOTATION_SNAPSHOT] = run.host.snapshot.target.name
    if run.host and run.host.pythonpath and "PYTHONPATH" not in run.spec.env:
        annotations[ANNOTATION_PYTHONPATH] = run.host.pythonpath
    return annotations
