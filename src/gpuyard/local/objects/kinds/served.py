"""Which kinds a yard serves."""

from __future__ import annotations

from gpuyard.local.objects.kinds.apps.deployment import DEPLOYMENT
from gpuyard.local.objects.kinds.apps.replica_set import REPLICA_SET
from gpuyard.local.objects.kinds.autoscaler import AUTOSCALER
from gpuyard.local.objects.kinds.config import CONFIG_MAP, SECRET, SERVICE_ACCOUNT
from gpuyard.local.objects.kinds.disruption_budget import DISRUPTION_BUDGET
from gpuyard.local.objects.kinds.endpoint_slice import ENDPOINT_SLICE
from gpuyard.local.objects.kinds.event import EVENT
from gpuyard.local.objects.kinds.job import JOB
from gpuyard.local.objects.kinds.lease import LEASE
from gpuyard.local.objects.kinds.namespace import NAMESPACE
from gpuyard.local.objects.kinds.node import NODE
from gpuyard.local.objects.kinds.pod import POD
from gpuyard.local.objects.kinds.priority_class import PRIORITY_CLASS
from gpuyard.local.objects.kinds.registry import Kinds
from gpuyard.local.objects.kinds.service import SERVICE
from gpuyard.local.objects.kinds.storage import PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, STORAGE_CLASS


def yard_kinds() -> Kinds:
    """Their registry; whoever composes a yard makes it once and passes it on."""
    return Kinds(
        (
            CONFIG_MAP,
            EVENT,
            NAMESPACE,
            NODE,
            PERSISTENT_VOLUME,
            PERSISTENT_VOLUME_CLAIM,
            POD,
            SECRET,
            SERVICE,
            SERVICE_ACCOUNT,
            DEPLOYMENT,
            REPLICA_SET,
            AUTOSCALER,
            JOB,
            LEASE,
            ENDPOINT_SLICE,
            DISRUPTION_BUDGET,
            PRIORITY_CLASS,
            STORAGE_CLASS,
        )
    )
