"""A run as Kubernetes objects: one batch/v1 Job, and a ConfigMap where its image lacks files.

A service is rendered by `serving.objects`; the pods of both by `pods.pod`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuyard.kube.objects import Manifest
from gpuyard.kube.wellknown import LABEL_RUN
from gpuyard.workloads import grace
from gpuyard.workloads.gang import (
    environment,
    is_elastic,
    is_gang,
    job_annotations,
    job_fields,
    pod_group,
    service,
    subdomain,
    template_annotations,
)
from gpuyard.workloads.pod_failure_policy import retry_fields
from gpuyard.workloads.pods.pod import PodRole, render_pod
from gpuyard.workloads.pods.provenance import provenance
from gpuyard.workloads.resolved_run import ResolvedRun
from gpuyard.workloads.spec.run_spec import RunSpec

if TYPE_CHECKING:
    from gpuyard.workloads.sweeps.sweep import SweepObjects


def render(run: ResolvedRun) -> list[Manifest]:
    """The objects of a run in the order of creation: claims that it makes, the ConfigMap that its Job mounts,
    the Service that its pods have their names from, the PodGroup by which a scheduler starts them together
    and the values of its tasks, if any, and the Job. Of a service the last one is the Deployment.

    Nothing changes them afterwards: what is to be in them has to be in `run`.
    """
    if run.spec.service is not None:
        from gpuyard.workloads.serving.objects import render_service  # Few runs are services.

        return render_service(run)
    tasks = _tasks(run)
    named = [service(run.name, run.namespace)] if is_gang(run.spec) else []
    if run.has_pod_group:
        named.append(pod_group(run.name, run.namespace, run.spec))
    if tasks:
        named.append(tasks.config_map)
    pod = render_pod(run, _role(run, tasks))
    files = [pod.config_map] if pod.config_map else []
    return [*_claims(run), *files, *named, _job(run, tasks, pod.spec)]


def _role(run: ResolvedRun, tasks: SweepObjects | None) -> PodRole:
    wiring = environment(run.name, run.namespace, run.spec)
    return PodRole(
        fields={"restartPolicy": "Never", **grace.pod_fields(run.spec), **_among_others(run)},
        wiring=[*wiring, *(tasks.environment if tasks else ())],
    )


def _job(run: ResolvedRun, tasks: SweepObjects | None, pod: dict[str, Any]) -> Manifest:
    labels = {LABEL_RUN: run.name}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": run.name,
            "namespace": run.namespace,
            "labels": dict(labels),
            "annotations": {
                **provenance(run),
                **(tasks.annotations if tasks else {}),
                **job_annotations(run.spec),
            },
        },
        "spec": {
            **job_fields(run.spec),
            **(tasks.job_fields(run.spec.at_once) if tasks else {}),
            **retry_fields(
                run.spec.retries,
                is_queued=run.is_queued,
                is_gang=is_gang(run.spec),
                is_elastic=is_elastic(run.spec),
                by_index=tasks is not None,
                ends_unused=grace.ends_unused(run.spec),
            ),
            "template": {"metadata": {"labels": dict(labels), **_annotated(run.spec)}, "spec": pod},
        },
    }


def _tasks(run: ResolvedRun) -> SweepObjects | None:
    if run.spec.sweep is None:
        return None
    from gpuyard.workloads.sweeps.sweep import SweepObjects  # Few runs are sweeps.

    return SweepObjects(run.name, run.namespace, run.spec.sweep)


def _claims(run: ResolvedRun) -> list[Manifest]:
    if not run.spec.volumes:
        return []
    from gpuyard.workloads.volumes import claims  # Few runs have any, and imports cost start-up time.

    return claims(run)


def _annotated(spec: RunSpec) -> dict[str, Any]:
    annotations = template_annotations(spec)
    return {"annotations": annotations} if annotations else {}


def _among_others(run: ResolvedRun) -> dict[str, Any]:
    """Below what the pods of a run have their names, the first part of which the Job's controller sets, and
    with what they start."""
    if not is_gang(run.spec):
        return {}
    group = {"schedulingGroup": {"podGroupName": run.name}} if run.has_pod_group else {}
    return {"subdomain": subdomain(run.name), **group}
