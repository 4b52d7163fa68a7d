# ruff: noqa: E501 - the texts are as they are printed
"""On logs as public reports have them; where each is from stands beside it."""

from __future__ import annotations

import pytest

from gpuyard.explain.causes import Cause
from gpuyard.explain.output.diagnosis import Diagnosis, diagnose

# NVIDIA/nvidia-docker#1479
UNAVAILABLE_804 = """\
ERROR: This container was built for NVIDIA Driver Release 450.51 or later, but
       version 440.33.01 was detected and compatibility mode is UNAVAILABLE.

       [[CUDA Driver UNAVAILABLE (cuInit(0) returned 804)]]
"""
# eugr/spark-vllm-docker#266
UNAVAILABLE = """\
ERROR: This container was built for NVIDIA Driver Release 590.48 or later, but
       version 580.159.03 was detected and compatibility mode is UNAVAILABLE.
"""
# ai-dynamo/nixl#441
PRESENT_803 = """\
ERROR: The NVIDIA Driver is present, but CUDA failed to initialize.  GPU functionality will not be available.
   [[ System has unsupported display driver / cuda driver combination (error 803) ]]
"""
# gpustack/gpustack#4678: an image of vLLM, whose ld.so.conf names compat
VLLM_803 = "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices() that might have already set an error? Error 803: system has unsupported display driver / cuda driver combination"
# NVIDIA/nvidia-container-toolkit#1239
CDI = "Error: failed to create containerd task: failed to create shim task: OCI runtime create failed: could not apply required modification to OCI specification: error modifying OCI spec: failed to inject CDI devices: unresolvable CDI devices management.nvidia.com/gpu=GPU-e78e68c0-4e6a-737e-f9cc-4223fe50aead"
# NVIDIA/open-gpu-kernel-modules#322, a V100
OPEN_MODULE = """\
[ 1157.046099] NVRM: The NVIDIA GPU 0000:af:00.0 (PCI ID: 10de:1db5)
               NVRM: installed in this system is not supported by open
               NVRM: nvidia.ko because it does not include the required GPU
               NVRM: System Processor (GSP).
"""
# A GTX 870M with driver 565.77: the NixOS configuration "homelab-subflake"
LEGACY = """\
NVRM: The NVIDIA GeForce GTX 870M GPU installed in this system is
NVRM:  supported through the NVIDIA 470.xx Legacy drivers. Please
NVRM:  visit http://www.nvidia.com/object/unix.html for more
NVRM:  information.  The 565.77 NVIDIA driver will ignore
NVRM:  this GPU.  Continuing probe...
"""
# bitsandbytes-foundation/bitsandbytes#1930, a Jetson Orin Nano
ORIN = "RuntimeError: Error named symbol not found at line 233 in file /src/csrc/ops.cu"


def found_in(text: str, *, in_image: bool = True) -> list[Diagnosis]:
    return diagnose(text.splitlines(), in_image=in_image)


@pytest.mark.parametrize(
    ("text", "causes", "said"),
    [
        (UNAVAILABLE_804, [Cause.DRIVER_TOO_OLD, Cause.FORWARD_COMPATIBILITY_UNSUPPORTED], "450.51"),
        (UNAVAILABLE, [Cause.DRIVER_TOO_OLD], "590.48"),
        (UNAVAILABLE.splitlines()[1], [Cause.DRIVER_TOO_OLD], "580.159.03"),
        (UNAVAILABLE.replace("\n", " "), [Cause.DRIVER_TOO_OLD], "590.48"),
        (PRESENT_803, [Cause.DRIVER_MISMATCH], "803"),
        (VLLM_803, [Cause.DRIVER_MISMATCH], "compat"),
        (CDI, [Cause.NO_CDI_DEVICE], "management.nvidia.com/gpu=GPU-e78e68c0-4e6a-737e-f9cc-4223fe50aead"),
        (OPEN_MODULE, [Cause.GPU_NOT_DRIVEN], "proprietary"),
        ("NVRM: The NVIDIA GPU 0000:01:00.0 (PCI ID: 10de:1b80) installed in this system is not supported by open nvidia.ko "
         "because it does not include the required GPU System Processor (GSP).", [Cause.GPU_NOT_DRIVEN], "proprietary"),
        ("NVRM: installed in this system requires use of the NVIDIA open kernel modules.", [Cause.GPU_NOT_DRIVEN], "open"),
        (LEGACY, [Cause.GPU_NOT_DRIVEN], "470.xx"),
        (ORIN, [Cause.SYMBOL_NOT_FOUND], "SBSA"),
        # numba/numba, of a wheel that is newer than the driver: the names alone
        ("numba.cuda.cudadrv.driver.LinkerError: [222] Call to cuLinkAddData results in CUDA_ERROR_UNSUPPORTED_PTX_VERSION\n"
         "ptxas application ptx input, line 9; fatal   : Unsupported .version 8.5; current version is '8.2'",
         [Cause.PTX_TOO_NEW], "222"),
        ("numba.cuda.cudadrv.driver.CudaAPIError: [209] Call to cuModuleLoadDataEx results in CUDA_ERROR_NO_BINARY_FOR_GPU",
         [Cause.NO_KERNEL_IMAGE], "209"),
        ("E external/local_xla/xla/stream_executor/cuda/cuda_driver.cc:266] failed call to cuInit: "
         "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE: forward compatibility was attempted on non supported HW",
         [Cause.FORWARD_COMPATIBILITY_UNSUPPORTED], "804"),
        ("RuntimeError: cuInit failed: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", [Cause.DRIVER_MISMATCH], "803"),
        ("RuntimeError: cudaErrorSystemNotReady", [Cause.FABRIC_NOT_READY], "802"),
    ],
)  # fmt: skip
def test_what_reports_say(text: str, causes: list[Cause], said: str) -> None:
    found = found_in(text)
    assert [each.key for each in found] == causes
    assert said in found[0].cause
    assert "{" not in found[0].cause + found[0].remedy


@pytest.mark.parametrize(
    ("library", "wheel"),
    [
        # pollen-robotics/microduck_rl#39
        ("libnvpl_lapack_lp64_gomp.so.0", "nvpl-lapack"),
        ("libcudss.so.0", "nvidia-cudss-cu13"),
        ("libcusparseLt.so.0", "nvidia-cusparselt-cu12"),
        ("libnvshmem_host.so.3", "nvidia-nvshmem-cu12"),
        ("libcufile.so.0", "nvidia-cufile-cu12"),
        ("libcudnn.so.9", "nvidia-*"),
    ],
)
def test_a_missing_library_and_the_wheel_that_has_it(library: str, wheel: str) -> None:
    [found] = found_in(f"ImportError: {library}: cannot open shared object file: No such file or directory")
    assert found.key is Cause.LIBRARY_MISSING
    assert library in found.cause
    assert wheel in found.remedy


def test_an_image_whose_compat_libraries_come_first_sets_the_drivers_before_them() -> None:
    [found] = found_in(VLLM_803)
    assert "set LD_LIBRARY_PATH" in found.remedy and "/etc/ld.so.conf.d" in found.remedy
    [found] = found_in(VLLM_803, in_image=False)
    assert found.remedy.startswith("reboot the node") and "ld.so.conf.d" not in found.remedy


def test_nvml_that_disagrees_with_the_module_is_about_the_node_alone() -> None:
    [found] = found_in("Failed to initialize NVML: Driver/library version mismatch")
    assert (found.key, found.remedy) == (Cause.DRIVER_MISMATCH, "reboot the node")


def test_on_a_jetson_its_own_wheels_help() -> None:
    [found] = found_in(ORIN)
    assert "JetPack" in found.remedy
