"""What an install's objects are called."""

from __future__ import annotations

from gpuyard.kube.wellknown import LABEL_PART_OF

PART_OF = "gpuyard"
#: On every object that an install makes; found by it again.
LABELS = {LABEL_PART_OF: PART_OF}
SELECTOR = f"{LABEL_PART_OF}={PART_OF}"
#: On the agents' pods besides.
AGENT_LABELS = {**LABELS, "app.kubernetes.io/component": "agent"}

NAMESPACE = "gpuyard-system"
AGENT = "gpuyard-agent"
LABELLER = "gpuyard-labeller"
LABELLER_PODS = "gpuyard-labeller-pods"
TENANTS = "gpuyard-tenants"
TENANTS_RUNTIMES = "gpuyard-tenants-runtimes"
TENANTS_PRIORITIES = "gpuyard-tenants-priorities"
TENANTS_SERVICES = "gpuyard-tenants-services"
TENANTS_VOID = "gpuyard-tenants-void"
RUNTIME_CLASS = "gpuyard-nvidia"
PLUGIN_CONTAINER, LABELLER_CONTAINER, EXPORTER_CONTAINER = "plugin", "labeller", "exporter"
#: Of the PriorityClasses: runs may leave it out.
PRIORITY_PREFIX = "gpuyard-"
#: The ClusterRole of who counts what others hold.
CAPACITY_ROLE = "gpuyard-capacity"
