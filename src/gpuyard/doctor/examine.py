"""One examination: the facts of a yard or of a cluster, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping

from gpuyard.doctor.check import Report
from gpuyard.doctor.progress import OnWait, Progress
from gpuyard.doctor.registry import RegistryFact


async def examine(
    context: str,
    namespace: str | None,
    asked: RegistryFact,
    environ: Mapping[str, str],
    on_wait: OnWait,
) -> Report:
    """Looks at everything, changes nothing, and never fails: what can't be had is a finding.

    Args:
        context: of the kubeconfig; empty for this machine's yard.
        namespace: where runs go; None for the context's own.
        asked: the registry or image that the user named, if any.
        environ: the command's; says where the yard and the kubeconfig are, and what is trusted of registries.
        on_wait: called with what is looked at, when that takes more than a second.
    """
    progress = Progress()
    async with progress.reported(on_wait):
        if context:
            from gpuyard.doctor import cluster
            from gpuyard.doctor.cluster_facts import look_at_cluster

            return cluster.judge(await look_at_cluster(context, namespace, asked, environ, progress))
        from gpuyard.doctor import yard
        from gpuyard.doctor.yard_facts import look_at_yard
        from gpuyard.local.paths import find_paths

        return yard.judge(await look_at_yard(find_paths(environ), asked, environ, progress))
