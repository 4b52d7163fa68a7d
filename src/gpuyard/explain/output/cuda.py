"""Lines about CUDA, its driver and its libraries.

The texts are those of libcudart 13 and libc10_cuda of torch 2.14, of NVIDIA's container toolkit, and of the
dynamic linker; older spellings are matched too.
"""

from __future__ import annotations

from gpuyard.explain.causes import Cause
from gpuyard.explain.output.known_lines import known

_OTHER_IMAGE = (
    "use an image or a torch for an older CUDA (`gpuyard image check` names one), or update the driver"
)
_MOUNT = "set runtimeClassName nvidia on the pod or as the node's default, and ask for GPUs with --gpus"
_OTHER_BUILD = "install a torch that has kernels for this GPU: `gpuyard image check` names a variant"

# In the order in which one line is tried: the texts with numbers before those that they contain.
CUDA_LINES = (
    known(
        Cause.GPU_CHECK_FAILED,
        r"gpuyard: this run asked for (?P<asked>\d+) GPUs?, and (?P<why>.*)",
        "gpuyard's launcher ended the run: {why}",
        "see to that, or set GPUYARD_ALLOW_CPU=1 for a run that may go on without",
    ),
    known(
        Cause.DRIVER_TOO_OLD,
        r"NVIDIA driver on your system is too old \(found version (?P<found>\d+)\)",
        "the node's driver is for CUDA {found}, older than the CUDA that torch was built "
        "with: it sees no GPU",
        _OTHER_IMAGE,
    ),
    known(
        Cause.REQUIREMENT_UNSATISFIED,
        r"unsatisfied condition: (?P<condition>[^:()]+?)(?:,| \(|:|$)",
        "the image asks for {condition} (NVIDIA_REQUIRE_*), the node's driver hasn't it, and its container "
        "runtime refuses",
        _OTHER_IMAGE + "; NVIDIA_DISABLE_REQUIRE=1 in env skips the check where the CUDA itself would run",
    ),
    known(
        Cause.DRIVER_TOO_OLD,
        r"CUDA driver version is insufficient for CUDA runtime version",
        "the node's driver is older than the image's CUDA runs on at all (error 35)",
        _OTHER_IMAGE,
    ),
    known(
        Cause.CALL_NEEDS_NEWER_DRIVER,
        r"API call is not supported in the installed CUDA driver",
        "the program uses a function that only a newer driver has: minor-version compatibility ends there "
        "(error 36)",
        _OTHER_IMAGE,
    ),
    known(
        Cause.PTX_TOO_NEW,
        r"provided PTX was compiled with an unsupported toolchain",
        "the image has no machine code for this GPU, and its PTX is newer than the driver (error 222)",
        _OTHER_BUILD + "; a newer driver helps too",
    ),
    known(
        Cause.NO_PTX_COMPILER,
        r"PTX JIT compiler library not found|PTX JIT compilation was disabled",
        "the driver's PTX compiler isn't in the container (error 221 or 223)",
        "set NVIDIA_DRIVER_CAPABILITIES=compute,utility in the run's env; unset CUDA_DISABLE_PTX_JIT",
    ),
    known(
        Cause.NO_KERNEL_IMAGE,
        r"no kernel image is available for execution on the device|device kernel image is invalid",
        "the image's GPU code wasn't built for this GPU (error 209 or 200)",
        _OTHER_BUILD,
    ),
    known(
        Cause.NO_KERNEL_IMAGE,
        r"with CUDA capability (?P<sm>sm_\d+[af]?) is not compatible with the current PyTorch",
        "torch has no kernels for {sm}, this GPU's architecture",
        _OTHER_BUILD,
    ),
    known(
        Cause.NO_KERNEL_IMAGE,
        r"Found GPU\d+ .* which is of compute capability \(CC\) (?P<capability>[\d.]+)|"
        r"does not include kernels for this GPU|No published PyTorch CUDA builds for release",
        "torch has no kernels for this GPU",
        _OTHER_BUILD,
    ),
    known(
        Cause.DRIVER_MISMATCH,
        r"unsupported display driver ?/ ?cuda driver combination|Driver/library version mismatch|Error 803",
        "the driver's library and its kernel module are of different versions: the driver was updated "
        "without a reboot, or the image brings compat libraries that this driver doesn't take (error 803)",
        "reboot the node, or take /usr/local/cuda/compat out of LD_LIBRARY_PATH",
    ),
    known(
        Cause.FORWARD_COMPATIBILITY_UNSUPPORTED,
        r"forward compatibility was attempted on non supported HW|Error 804",
        "the image brings CUDA's forward compatibility libraries, which only data-centre GPUs take "
        "(error 804)",
        "use an image for the driver's CUDA or older, or take /usr/local/cuda/compat out of it",
    ),
    known(
        Cause.FABRIC_NOT_READY,
        r"system not yet initialized|Error 802",
        "the NVSwitch fabric of the node isn't up (error 802)",
        "start nvidia-fabricmanager on the node, of the driver's exact version",
    ),
    known(
        Cause.NO_DRIVER,
        r"Found no NVIDIA driver on your system|driver not loaded|"
        r"libnvidia-ml\.so\.1: cannot open|load library failed: libnvidia-ml",
        "no NVIDIA driver is visible in the container: no GPU was asked for, or the runtime brought none in",
        _MOUNT,
    ),
    known(
        Cause.NO_DRIVER,
        r"libcuda\.so\.1: cannot open shared object file",
        "the driver's library isn't in the container",
        _MOUNT,
    ),
    known(
        Cause.TORCH_WITHOUT_CUDA,
        r"Torch not compiled with CUDA enabled",
        "the torch that the run uses is built without CUDA",
        "install a CUDA build of torch: pip's default index has one, the /whl/cpu index hasn't",
    ),
    known(
        Cause.LIBRARY_SHADOWED,
        r"undefined symbol: __nvJitLink\w+|undefined symbol: \w*(?:cublas|cudnn|cusparse|nvJitLink)\w*",
        "CUDA libraries of the base image shadow those that torch brought, through LD_LIBRARY_PATH",
        "unset LD_LIBRARY_PATH in env, or use a base image without CUDA for a torch from pip",
    ),
    known(
        Cause.LIBRARY_MISSING,
        r"(?P<library>lib(?:cudart|cublas\w*|cudnn\w*|nccl|nvrtc|cufft|curand|cusparse|cusolver)\.so\.\d+): "
        r"cannot open shared object file",
        "{library}, which the program was linked with, isn't in the image",
        "install the nvidia-* wheel that has it, or build the program for the CUDA that the image has",
    ),
    known(
        Cause.WRONG_CPU_ARCHITECTURE,
        r"[Ee]xec format error|no match for platform in manifest|no matching manifest for linux/|"
        r"no image found in (?:image index|manifest list) for architecture",
        "the image is for another CPU architecture than the node's",
        "build it for the node's with --platform (linux/amd64 or linux/arm64), or choose other nodes",
    ),
    known(
        Cause.STUB_LIBRARY,
        r"CUDA driver is a stub library",
        "LD_LIBRARY_PATH leads to the toolkit's stubs instead of the driver's library (error 34)",
        "take the folder that ends in /stubs out of LD_LIBRARY_PATH",
    ),
    known(
        Cause.NO_DEVICE,
        r"no CUDA-capable device is detected|No CUDA GPUs are available",
        "CUDA sees no GPU: none was allotted, or CUDA_VISIBLE_DEVICES hides it (error 100)",
        "ask for GPUs with --gpus, and don't set CUDA_VISIBLE_DEVICES in the program",
    ),
    known(
        Cause.DEVICE_BUSY,
        r"all CUDA-capable devices are busy or unavailable",
        "another process holds the GPU exclusively, or it is unwell (error 46)",
        "see `nvidia-smi` on the node for its compute mode and who uses it",
    ),
    known(
        Cause.SYMBOL_NOT_FOUND,
        r"\bnamed symbol not found",
        "the driver and the CUDA libraries don't agree (error 500)",
        _OTHER_IMAGE,
    ),
    known(
        Cause.INITIALIZATION_FAILED,
        r"CUDA driver initialization failed, you might not have a CUDA gpu|CUDA error: initialization error|"
        r"CUDA unknown error - this may be due to an incorrectly set up environment|"
        r"Unexpected error from cudaGetDeviceCount\(\)",
        "CUDA didn't start: the driver isn't healthy, or a process was forked after CUDA had been used",
        "start workers with the `spawn` method; else look into the node's kernel log for Xid messages",
    ),
)  # fmt: skip
