"""Lines about CUDA, its driver and its libraries.

The texts are those of libcudart 13 and libc10_cuda of torch 2.14, of NVIDIA's container toolkit, of the start
script of NVIDIA's containers, of NVIDIA's kernel module, and of the dynamic linker; older spellings are
matched too.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpuyard.explain.causes import Cause
from gpuyard.explain.output.kernels import OTHER_BUILD
from gpuyard.explain.output.known_lines import known

_OTHER_IMAGE = (
    "use an image or a torch for an older CUDA (`gpuyard image check` names one), or update the driver"
)
_MOUNT = "set runtimeClassName nvidia on the pod or as the node's default, and ask for GPUs with --gpus"
_MISSING = r": cannot open shared object file"
#: Libraries that torch's wheels link and images rarely have, and the wheels that bring them.
_WHEELS = {
    r"cudss": "nvidia-cudss-cu12 or nvidia-cudss-cu13",
    r"cusparseLt": "nvidia-cusparselt-cu12 or nvidia-cusparselt-cu13",
    r"nvshmem\w*": "nvidia-nvshmem-cu12 or nvidia-nvshmem-cu13",
    r"cufile\w*": "nvidia-cufile-cu12, or nvidia-cufile for CUDA 13",
    r"nvpl_\w+": "nvpl-blas or nvpl-lapack: it is one for Arm CPUs",
}


def _falls_back(lines: Sequence[str], at: int) -> bool:
    """Whether it is why NVIDIA's container runs by the driver's own library: that it does is no failure."""
    return any("Minor Version Compatibility" in line for line in lines[max(0, at - 6) : at])


def _does_without(lines: Sequence[str], at: int) -> bool:
    """Whether a program says of a library that it goes on without: TensorFlow and torchvision do."""
    return "dlerror: " in lines[at] or "Failed to load image Python extension" in lines[at]


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
        r"CUDA driver version is insufficient for CUDA runtime version|cudaErrorInsufficientDriver\b",
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
        r"provided PTX was compiled with an unsupported toolchain|CUDA_ERROR_UNSUPPORTED_PTX_VERSION|"
        r"cudaErrorUnsupportedPtxVersion|Unsupported \.version [\d.]+; current version is",
        "the image has no machine code for this GPU, and its PTX is newer than the driver (error 222)",
        OTHER_BUILD + "; a newer driver helps too",
    ),
    known(
        Cause.NO_PTX_COMPILER,
        r"PTX JIT compiler library not found|PTX JIT compilation was disabled|"
        r"CUDA_ERROR_JIT_COMPILER_NOT_FOUND|cudaErrorJitCompilerNotFound",
        "the driver's PTX compiler isn't in the container (error 221 or 223)",
        "set NVIDIA_DRIVER_CAPABILITIES=compute,utility in the run's env; unset CUDA_DISABLE_PTX_JIT",
    ),
    known(
        Cause.DRIVER_TOO_OLD,
        r"built for NVIDIA Driver Release (?P<built>[\d.]+) or later",
        "the image was made for driver {built} or newer, the node's is older, and the image's compat "
        "libraries don't work there",
        _OTHER_IMAGE,
    ),
    known(
        Cause.DRIVER_TOO_OLD,
        r"version (?P<driver>[\d.]*) ?was detected and compatibility mode is UNAVAILABLE",
        "the image was made for a newer driver than the node's {driver}, and its compat libraries don't work "
        "there",
        _OTHER_IMAGE,
    ),
    known(
        Cause.DRIVER_MISMATCH,
        r"(?i)unsupported display driver ?/ ?cuda driver combination|error 803|"
        r"cuInit\(0?\)(?:=| returned )803|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH|cudaErrorSystemDriverMismatch",
        "the driver's library and its kernel module are of different versions: the image's compat libraries, "
        "which this driver doesn't take, come before the driver's own, or the driver was updated without a "
        "reboot (error 803)",
        "reboot the node; where LD_LIBRARY_PATH names a compat folder, take it out",
        "let the driver's library come first: where a file in the image's /etc/ld.so.conf.d names "
        "/usr/local/cuda/compat, as in vllm's from 0.15 on, set LD_LIBRARY_PATH in env to the folders of the "
        "driver's (/usr/local/nvidia/lib64:/usr/lib/x86_64-linux-gnu); where LD_LIBRARY_PATH names compat, "
        "take it out. If every image fails so, reboot the node",
        unless=_falls_back,
    ),
    known(
        Cause.DRIVER_MISMATCH,
        r"Driver/library version mismatch",
        "the driver's library and its kernel module are of different versions: the driver was updated "
        "without a reboot",
        "reboot the node",
    ),
    known(
        Cause.FORWARD_COMPATIBILITY_UNSUPPORTED,
        r"(?i)forward compatibility was attempted on non supported HW|error 804|"
        r"cuInit\(0?\)(?:=| returned )804|CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE|"
        r"cudaErrorCompatNotSupportedOnDevice",
        "the image brings CUDA's forward compatibility libraries, which only data-centre GPUs take "
        "(error 804)",
        "use an image for the driver's CUDA or older, or take /usr/local/cuda/compat out of it",
        unless=_falls_back,
    ),
    known(
        Cause.FABRIC_NOT_READY,
        r"(?i)system not yet initialized|error 802|cuInit\(0?\)(?:=| returned )802|"
        r"CUDA_ERROR_SYSTEM_NOT_READY|cudaErrorSystemNotReady",
        "the NVSwitch fabric of the node isn't up (error 802)",
        "start nvidia-fabricmanager on the node, of the driver's exact version",
        unless=_falls_back,
    ),
    known(
        Cause.GPU_NOT_DRIVEN,
        r"supported through the NVIDIA (?P<branch>[\w.]+) Legacy drivers",
        "the node's driver is too new for this GPU and ignores it: {branch} is the last one that drives it",
        "install that driver on the node, or take the GPU out",
    ),
    known(
        Cause.GPU_NOT_DRIVEN,
        r"not supported by open(?: nvidia\.ko|$)|nvidia\.ko because it does not include the required GPU",
        "the node has NVIDIA's open kernel modules, and this GPU, older than Turing, needs the proprietary "
        "ones",
        "install the driver with its proprietary kernel modules on the node, of branch 580 or older",
    ),
    known(
        Cause.GPU_NOT_DRIVEN,
        r"requires use of the NVIDIA open kernel modules",
        "the node has NVIDIA's proprietary kernel modules, and this GPU, Blackwell or newer, needs the open "
        "ones",
        "install the driver with its open kernel modules on the node",
    ),
    known(
        Cause.NO_CDI_DEVICE,
        r"unresolvable CDI devices (?P<devices>[^\s\",]+)",
        "no CDI file of the node has {devices}, or two have it",
        "see what `gpuyard doctor` says of the node: make its CDI file again, or take the second one away",
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
        unless=_does_without,
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
        r"(?P<library>lib(?:cudart|cublas\w*|cudnn\w*|nccl|nvrtc\S*|cufft\w*|curand|cusparse|"
        rf"cusolver\w*|cupti|nvJitLink)\.so\.\d+){_MISSING}",
        "{library}, which the program was linked with, isn't in the image",
        "install the nvidia-* wheel that has it, or build the program for the CUDA that the image has",
        unless=_does_without,
    ),
    *(
        known(
            Cause.LIBRARY_MISSING,
            rf"(?P<library>lib{name}\.so[.\d]*){_MISSING}",
            "{library}, which the program was linked with, isn't in the image",
            f"install the wheel that has it, {wheel}",
            unless=_does_without,
        )
        for name, wheel in _WHEELS.items()
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
        r"(?i)no CUDA-capable device is detected|No CUDA GPUs are available",
        "CUDA sees no GPU: none was allotted, or CUDA_VISIBLE_DEVICES hides it (error 100)",
        "ask for GPUs with --gpus, and don't set CUDA_VISIBLE_DEVICES in the program",
        unless=lambda lines, at: _falls_back(lines, at) or "failed call to cuInit" in lines[at],
    ),
    known(
        Cause.DEVICE_BUSY,
        r"all CUDA-capable devices are busy or unavailable",
        "another process holds the GPU exclusively, or it is unwell (error 46)",
        "see `nvidia-smi` on the node for its compute mode and who uses it",
    ),
    known(
        Cause.SYMBOL_NOT_FOUND,
        r"(?i)\bnamed symbol not found",
        "a library's GPU code isn't made for this CUDA or this GPU (error 500): on a Jetson it is a wheel "
        "for Arm servers (SBSA), whose CUDA isn't L4T's",
        "on a Jetson install the wheels made for its JetPack, or build the library there; elsewhere "
        + _OTHER_IMAGE,
        unless=_falls_back,
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
