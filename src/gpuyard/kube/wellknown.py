"""Names that several packages must spell the same: labels, annotations, resources, sentinels."""

from __future__ import annotations

#: Whose a GPU is: the domain of the resource that it is offered as (`nvidia.com/gpu`) and of its labels.
NVIDIA, AMD = "nvidia.com", "amd.com"
#: On Job and pods: the run that they belong to.
LABEL_RUN = "gpuyard.io/run"
#: On nodes: how many GPUs they have, and NVIDIA's name of the first, as GPU feature discovery has them.
LABEL_GPU_COUNT = "nvidia.com/gpu.count"
LABEL_GPU_REPLICAS = "nvidia.com/gpu.replicas"
LABEL_GPU_PRODUCT = "nvidia.com/gpu.product"
#: On nodes: the catalogue's name of the GPU model, whatever the vendor's product label says.
LABEL_GPU_MODEL = "gpuyard.io/gpu-model"
#: The value of that label where a node has GPUs of several models: such a node matches no model's name, since
#: a run that asks for one could get another there.
MIXED_MODELS = "mixed"
#: On such nodes, with a model's name behind: how many there are of it.
LABEL_GPU_COUNT_OF = "gpuyard.io/gpu-count."
#: On nodes: the NVLink domain of several nodes that it is in; the most GPUs of it that NVLink (or Infinity
#: Fabric) joins, that are below one PCIe host bridge, and that are at one NUMA node.
LABEL_NVLINK_DOMAIN = "gpuyard.io/nvlink-domain"
LABEL_NVLINK_ISLAND = "gpuyard.io/nvlink-island"
LABEL_PCIE_ISLAND = "gpuyard.io/pcie-island"
LABEL_NUMA_ISLAND = "gpuyard.io/numa-island"
#: On nodes: "true" when the GPUs are simulated.
LABEL_SIMULATED = "gpuyard.io/simulated"
#: On nodes: "cdi" or "legacy", how GPUs get into containers there; whoever runs the node sets it.
LABEL_GPU_INJECTION = "gpuyard.io/gpu-injection"

#: On nodes with GPUs of a cluster: what its other parts, and users' manifests, select them by.
LABEL_HARDWARE_TYPE = "hardware-type"
HARDWARE_TYPE = "nvidia-gpu"
#: On namespaces: whose they are. The admission policy of an install holds in those that have it.
LABEL_TENANT = "gpuyard.io/tenant"
#: Beside it: the highest value of a PriorityClass that pods there may have; 0 without it.
LABEL_MAX_PRIORITY = "gpuyard.io/max-priority"
#: Beside it: "true" where pods may have GPUs that several containers share.
LABEL_SHARED_GPUS = "gpuyard.io/shared-gpus"
#: On RuntimeClasses: "false" where an administrator knows that its handler gives GPUs to nobody.
LABEL_GIVES_GPUS = "gpuyard.io/gives-gpus"
#: On everything that an install makes: "gpuyard".
LABEL_PART_OF = "app.kubernetes.io/part-of"
#: On nodes of a cluster: the labels that are there because of gpuyard, and whether its taint is.
ANNOTATION_LABELS_SET = "gpuyard.io/labels-set"
ANNOTATION_TAINT_SET = "gpuyard.io/taint-set"

#: On a Job: RFC 3339 time at which its user stopped it.
ANNOTATION_STOPPED_AT = "gpuyard.io/stopped-at"
#: Beside it: `suspending` where the Job was suspended for that, and so goes on when somebody resumes it.
ANNOTATION_STOPPED_BY = "gpuyard.io/stopped-by"
#: Beside it, of a run that was there for a shell: the exit code of that, which its user left.
ANNOTATION_SHELL_EXIT = "gpuyard.io/shell-exit-code"
#: On a Job: the script or command, as the user would recognise it.
ANNOTATION_COMMAND = "gpuyard.io/command"
#: On pods: how many of its Job's start together or not at all.
ANNOTATION_GANG_SIZE = "gpuyard.io/gang-size"
#: On the Job of an elastic run: between which numbers of pods it may be scaled, `2..4`.
ANNOTATION_NODES = "gpuyard.io/nodes"
#: On a Job with tasks: the name of the ConfigMap that has their values.
ANNOTATION_SWEEP = "gpuyard.io/sweep"
#: On a Deployment: the spec that a service was made of and the folder that its paths start from, as JSON, for
#: the next change of it.
ANNOTATION_SPEC = "gpuyard.io/spec"
#: On a Job of a yard: the folder below the yard's `snapshots` that holds its code.
ANNOTATION_SNAPSHOT = "gpuyard.io/snapshot"
#: On a Job: the PYTHONPATH of the shell that submitted it, which the run wasn't given.
ANNOTATION_PYTHONPATH = "gpuyard.io/shell-pythonpath"
#: On a pod of a yard: how many seconds its processes have to end, in the place of its grace period, and the
#: signal that tells them to, such as SIGINT.
ANNOTATION_STOP_GRACE = "gpuyard.io/stop-grace-s"
ANNOTATION_STOP_SIGNAL = "gpuyard.io/stop-signal"
#: When a run was submitted, to the microsecond: `creationTimestamp` has whole seconds.
ANNOTATION_SUBMITTED_AT = "gpuyard.io/submitted-at"
#: On pods and nodes of a yard: "bubblewrap" or "none"; "podman" on pods with images.
ANNOTATION_ISOLATION = "gpuyard.io/isolation"
#: On pods of a yard: comma-separated field paths of the pod spec that the runtime doesn't apply.
ANNOTATION_NOT_APPLIED = "gpuyard.io/not-applied"
#: On pods of a yard: comma-separated ids of the devices allotted to it.
ANNOTATION_DEVICES = "gpuyard.io/devices"
#: On pods of a yard: how many of its processes the kernel has killed for lack of memory.
ANNOTATION_OOM_KILLS = "gpuyard.io/oom-kills"
#: On such pods: "limit" where the container reached its own, "node" where memory was short outside of it.
ANNOTATION_OOM_CAUSE = "gpuyard.io/oom-cause"
#: On such pods: how many of them are of which start, `main/1=2`, so that a new kubelet counts on from there.
ANNOTATION_OOM_KILLS_BY_START = "gpuyard.io/oom-kills-by-start"
#: On pods with GPUs: what they have used of them, see `gpus.use`.
ANNOTATION_GPU_USE = "gpuyard.io/gpu-use"
#: On the pod of a run that serves a terminal: another word again and again, as long as somebody has it.
ANNOTATION_TERMINAL = "gpuyard.io/terminal"
#: On a pod of a yard whose program takes PORT from its environment: which free port of the machine stands in
#: for each containerPort, as JSON, `{"8000": 41234}`. See `pods.listening_port`.
ANNOTATION_PORTS = "gpuyard.io/ports"
#: On nodes of a yard: "cpu,memory" where cgroups enforce limits, else "none".
ANNOTATION_ENFORCED = "gpuyard.io/enforced"
#: On nodes whose agent finds no GPUs: why, with the remedy.
ANNOTATION_NO_GPUS = "gpuyard.io/no-gpus"
#: On nodes that offer GPUs, and not all of them: which not, and why.
ANNOTATION_UNOFFERED = "gpuyard.io/unoffered"
#: On nodes with unhealthy GPUs: which, why and since when, see `gpus.faults`.
ANNOTATION_GPU_HEALTH = "gpuyard.io/gpu-health"
#: On nodes with GPUs that somebody else is on: who, see `gpus.occupants`.
ANNOTATION_GPU_OCCUPANTS = "gpuyard.io/gpu-occupants"
#: On nodes whose driver hangs or is gone, and whose GPUs are served as they were: why, with the remedy.
ANNOTATION_GPU_DRIVER = "gpuyard.io/gpu-driver"
#: On nodes whose CDI spec isn't what the agent wrote, or isn't the only one, see `gpus.cdi`.
ANNOTATION_CDI = "gpuyard.io/cdi"
#: On nodes whose agent sees their files: whether images can choose GPUs there, see `gpus.exposure`.
ANNOTATION_GPU_EXPOSURE = "gpuyard.io/gpu-exposure"
#: On simulated nodes of a yard: POWER_OFF takes their power away.
ANNOTATION_POWER = "gpuyard.io/power"
POWER_OFF = "off"
#: On nodes of a yard: "podman 4.3.1", or "none: " and why images can't run there.
ANNOTATION_CONTAINERS = "gpuyard.io/containers"

#: What a HorizontalPodAutoscaler of a yard may scale by, as metrics of type Pods. The first three measure
#: what a replica has to do on average (the last of them in percent). The fourth is how many seconds 99 of 100
#: requests may take at most: there are as many replicas then as that needs.
METRIC_IN_FLIGHT = "gpuyard_service_requests_in_flight"
METRIC_REQUESTS_PER_SECOND = "gpuyard_service_requests_per_second"
METRIC_GPU_UTILIZATION = "gpuyard_gpu_utilization"
METRIC_P99 = "gpuyard_service_p99_seconds"
#: On such an autoscaler with `minReplicas: 0`: how long without a request until there are none, `15m`.
ANNOTATION_SCALE_TO_ZERO = "gpuyard.io/scale-to-zero"
#: On an autoscaler of a yard: why there are as many replicas as there are, see `autoscaling.reason`.
ANNOTATION_SCALING = "gpuyard.io/scaling"

#: The StorageClass of a yard, and who makes its volumes: folders of the yard's own.
STORAGE_CLASS_FOLDER = "gpuyard-folder"
PROVISIONER_FOLDER = "gpuyard.io/folder"
#: A pod with this runtime class and image is a process of the yard's host. No cluster has them,
#: so a real API server refuses such a pod instead of pulling something by that name.
RUNTIME_CLASS_PROCESS = "gpuyard-process"
IMAGE_PROCESS = "gpuyard.io/host-process"

#: Set to "1" in the environment of every process that got simulated GPUs.
ENV_SIMULATED = "GPUYARD_SIMULATED"
#: In the environment of every process that got shares of GPUs: their device ids, separated by commas.
ENV_SHARES = "GPUYARD_SHARES"
#: In the environment of a run with a snapshot: the folder that it was submitted from.
ENV_SUBMIT_DIR = "GPUYARD_SUBMIT_DIR"
#: In the environment of a run's process: how many GPUs it asked for, for the launcher to look for.
ENV_GPUS = "GPUYARD_GPUS"
#: In the environment of the pods of a run that has several, for the launcher: how many they are, the address
#: and the port where the first waits for the others, and how many seconds; this pod's number; and what only
#: the run's own pods know.
ENV_GANG = "GPUYARD_GANG"
ENV_GANG_RANK = "GPUYARD_GANG_RANK"
ENV_GANG_UID = "GPUYARD_GANG_UID"
#: In the environment of a run that says how long it may take to end: so many seconds, for the launcher.
ENV_GRACE = "GPUYARD_GRACE_S"
#: In the environment of a run with a signal before its timeout, for the launcher: its name, and how many
#: seconds after the pod's start it is due.
ENV_SIGNAL = "GPUYARD_SIGNAL"
#: Set in runs that end when their GPUs have been idle for so many seconds, and in those that serve a
#: terminal; in both, the folder of files with what their pod's annotations say.
ENV_IDLE = "GPUYARD_IDLE_S"
ENV_TERMINAL = "GPUYARD_TERMINAL"
ENV_POD_INFO = "GPUYARD_POD_INFO"
#: In the environment of the pods of a sweep, for the launcher: the values of all of its tasks.
ENV_SWEEP = "GPUYARD_SWEEP"
#: In the environment of a service's replicas: where to listen.
ENV_PORT = "PORT"
#: A user sets it to "1" for a run that may go on without the GPUs it asked for.
ENV_ALLOW_CPU = "GPUYARD_ALLOW_CPU"
#: A user sets it to "1" for a run that reads CUDA_VISIBLE_DEVICES as numbers.
ENV_CUDA_INDEXES = "GPUYARD_CUDA_INDEXES"

#: What the allocation of GPUs sets, and a user's value would go round it.
ALLOCATED_ENV = frozenset(
    {"NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "NVIDIA_MIG_CONFIG_DEVICES",
     "NVIDIA_MIG_MONITOR_DEVICES", "NVIDIA_IMEX_CHANNELS", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
     "GPUYARD_SIMULATED", "GPUYARD_SHARES"}
)  # fmt: skip

LABEL_JOB_NAME = "batch.kubernetes.io/job-name"
LABEL_JOB_UID = "batch.kubernetes.io/controller-uid"
LABEL_HOSTNAME = "kubernetes.io/hostname"
FINALIZER_JOB_TRACKING = "batch.kubernetes.io/job-tracking"
ANNOTATION_COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
#: On a pod: how often the pods of its index failed before it, and how often without counting.
ANNOTATION_INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
ANNOTATION_INDEX_IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"

#: On an EndpointSlice: the Service that it is of, who keeps it, and whether the Service is headless.
LABEL_SERVICE_NAME = "kubernetes.io/service-name"
LABEL_SLICE_MANAGER = "endpointslice.kubernetes.io/managed-by"
LABEL_HEADLESS = "service.kubernetes.io/headless"

#: On a pod: a number; the cheaper ones of a ReplicaSet are deleted first.
ANNOTATION_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
#: On the pods and the ReplicaSets of a Deployment: which of its templates they are of.
LABEL_TEMPLATE_HASH = "pod-template-hash"
#: On a Deployment and its ReplicaSets: the number of the change; on a ReplicaSet also those it had before.
ANNOTATION_REVISION = "deployment.kubernetes.io/revision"
#: On a pod template: when its pods were last to be replaced without any other change. Of kubectl.
ANNOTATION_RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
ANNOTATION_REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
#: On such ReplicaSets: how many pods the Deployment wanted when it last scaled, and how many it allowed.
ANNOTATION_DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
ANNOTATION_MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
#: On whatever `kubectl apply` has made: the manifest that it was given.
ANNOTATION_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

#: A Job with it waits, suspended, until Kueue admits it from that queue.
LABEL_KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"
#: Of the Workload that Kueue made for a Job.
LABEL_KUEUE_JOB_UID = "kueue.x-k8s.io/job-uid"

TAINT_NOT_READY = "node.kubernetes.io/not-ready"
TAINT_UNREACHABLE = "node.kubernetes.io/unreachable"
#: Somebody confirms that the machine is down, so that its pods may be given up.
TAINT_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
TAINT_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
