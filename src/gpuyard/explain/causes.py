"""What holds a run or ended it, as one word for machines; the JSON output spells it the same."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """One word for each cause, in the order of the steps; the last part is of lines of its output."""

    # its Job
    SUSPENDED = "suspended"
    QUEUED = "queued"
    NO_KUEUE = "no_kueue"
    GATED = "gated"
    MANAGED = "managed"
    DELETING = "deleting"

    # quota
    QUOTA = "quota"
    QUOTA_UNSET = "quota_unset"
    QUOTA_RETRY = "quota_retry"
    QUOTA_SCOPE = "quota_scope"
    LIMIT_RANGE = "limit_range"

    # admission
    POD_SECURITY = "pod_security"
    POLICY = "policy"
    WEBHOOK = "webhook"
    WEBHOOK_AWAY = "webhook_away"
    NO_SERVICE_ACCOUNT = "no_service_account"
    NO_PRIORITY_CLASS = "no_priority_class"
    NO_RUNTIME_CLASS = "no_runtime_class"
    NAMESPACE_ENDING = "namespace_ending"
    INVALID = "invalid"
    REFUSED = "refused"

    # nodes: those of Blocker, and what the scheduler says
    NO_SCHEDULER = "no_scheduler"
    NO_RESOURCE_CLAIM = "no_resource_claim"
    NO_NODES = "no_nodes"
    NODE = "node"
    TAINTS = "taints"
    SELECTOR = "selector"
    MODEL = "model"
    TOO_LARGE = "too_large"
    BUSY = "busy"
    PORTS = "ports"
    POD_AFFINITY = "pod_affinity"
    SPREAD = "spread"
    SPREAD_LABEL = "spread_label"
    NO_RESOURCE = "no_resource"
    CLAIM_UNMET = "claim_unmet"
    VOLUME_COUNT = "volume_count"
    POD_GROUP = "pod_group"
    SCHEDULER = "scheduler"

    # volumes
    NO_CLAIM = "no_claim"
    CLAIM_LOST = "claim_lost"
    NO_DEFAULT_CLASS = "no_default_class"
    NO_CLASS = "no_class"
    NO_VOLUME = "no_volume"
    PROVISIONING = "provisioning"
    VOLUME_ELSEWHERE = "volume_elsewhere"
    NO_CONFIG_MAP = "no_config_map"
    NO_SECRET = "no_secret"
    NO_OBJECT = "no_object"
    NO_KEY = "no_key"
    ATTACHED_ELSEWHERE = "attached_elsewhere"
    MOUNT = "mount"

    # image
    IMAGE_NAME = "image_name"
    IMAGE_NOT_FOUND = "image_not_found"
    IMAGE_UNAUTHORIZED = "image_unauthorized"
    IMAGE_PLATFORM = "image_platform"
    IMAGE_NEVER_PULLED = "image_never_pulled"
    IMAGE_RATE = "image_rate"
    REGISTRY_UNREACHABLE = "registry_unreachable"
    REGISTRY_PLAIN = "registry_plain"
    REGISTRY_CERTIFICATE = "registry_certificate"
    NODE_DISK = "node_disk"
    IMAGE_PULL = "image_pull"

    # devices
    NO_GPUS = "no_gpus"
    UNHEALTHY = "unhealthy"
    NO_HEALTHY_DEVICES = "no_healthy_devices"
    OUT_OF_DEVICES = "out_of_devices"
    ALLOCATE_FAILED = "allocate_failed"
    NO_CDI_DEVICE = "no_cdi_device"
    UNHEALTHY_DEVICE = "unhealthy_device"

    # start
    NO_EXECUTABLE = "no_executable"
    NOT_EXECUTABLE = "not_executable"
    NO_WORKDIR = "no_workdir"
    RUNS_AS_ROOT = "runs_as_root"
    NAMED_USER = "named_user"
    ARCHITECTURE = "architecture"
    NO_RUNTIME = "no_runtime"
    MEMORY_LIMIT = "memory_limit"
    NETWORK = "network"
    START = "start"

    # process: how it ended, named as in workloads.outcome.Reason
    CRASH_LOOP = "crash_loop"
    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    OOM_KILLED = "oom_killed"
    START_ERROR = "start_error"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    EVICTED = "evicted"
    PREEMPTED = "preempted"
    DRAINED = "drained"
    NODE_REBOOTED = "node_rebooted"
    NODE_LOST = "node_lost"
    UNUSED = "unused"
    ENDED_WITH_ANOTHER = "ended_with_another"
    RANK_MISSING = "rank_missing"
    JOB_FAILED = "job_failed"

    # process: what its output says
    GPU_CHECK_FAILED = "GpuCheckFailed"
    DRIVER_TOO_OLD = "DriverTooOld"
    REQUIREMENT_UNSATISFIED = "RequirementUnsatisfied"
    CALL_NEEDS_NEWER_DRIVER = "CallNeedsNewerDriver"
    PTX_TOO_NEW = "PtxTooNew"
    NO_PTX_COMPILER = "NoPtxCompiler"
    NO_KERNEL_IMAGE = "NoKernelImage"
    DRIVER_MISMATCH = "DriverMismatch"
    FORWARD_COMPATIBILITY_UNSUPPORTED = "ForwardCompatibilityUnsupported"
    FABRIC_NOT_READY = "FabricNotReady"
    GPU_NOT_DRIVEN = "GpuNotDriven"
    NO_DRIVER = "NoDriver"
    TORCH_WITHOUT_CUDA = "TorchWithoutCuda"
    MODULE_MISSING = "ModuleMissing"
    LIBRARY_SHADOWED = "LibraryShadowed"
    LIBRARY_MISSING = "LibraryMissing"
    WRONG_CPU_ARCHITECTURE = "WrongCpuArchitecture"
    STUB_LIBRARY = "StubLibrary"
    NO_DEVICE = "NoDevice"
    DEVICE_BUSY = "DeviceBusy"
    SYMBOL_NOT_FOUND = "SymbolNotFound"
    INITIALIZATION_FAILED = "InitializationFailed"
    CUDA_OUT_OF_MEMORY = "CudaOutOfMemory"
    GPU_ID_IS_UUID = "GpuIdIsUuid"
    SHARED_MEMORY_FULL = "SharedMemoryFull"
    BUS_ERROR = "BusError"
    DISK_FULL = "DiskFull"
    PORT_IN_USE = "PortInUse"
    CHILD_KILLED = "ChildKilled"
    OWN_TMP = "OwnTmp"
    NOT_BASH = "NotBash"


#: Nothing mends these but another run.
NEEDS_ANOTHER_RUN = frozenset({Cause.IMAGE_NAME})
