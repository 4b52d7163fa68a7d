# ruff: noqa: E501 - the texts are as they are printed
from __future__ import annotations

from typing import Any

import pytest

from gpuyard.explain.output.diagnosis import diagnose
from gpuyard.explain.output.python import RunPython

#: Texts as the programs print them.
LINES = [
    ("GpuCheckFailed", "gpuyard: this run asked for 2 GPUs, and CUDA sees only 1 (NVIDIA_VISIBLE_DEVICES=0)"),
    ("DriverTooOld", "UserWarning: CUDA initialization: The NVIDIA driver on your system is too old (found version "
     "12020). Please update your GPU driver by downloading"),
    ("DriverTooOld", "RuntimeError: CUDA driver version is insufficient for CUDA runtime version"),
    ("DriverTooOld", "NCCL WARN Cuda failure 'CUDA driver version is insufficient for CUDA runtime version'"),
    ("NoDriver", "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"),
    ("NoDriver", "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory"),
    ("NoDriver", "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown"),
    ("InitializationFailed", "RuntimeError: CUDA driver initialization failed, you might not have a CUDA gpu."),
    ("InitializationFailed", "CUDA unknown error - this may be due to an incorrectly set up environment, e.g. ..."),
    ("InitializationFailed", "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before"),
    ("DriverMismatch", "Unexpected error from cudaGetDeviceCount(). ... Error 803: system has unsupported display "
     "driver / cuda driver combination"),
    ("ForwardCompatibilityUnsupported", "Error 804: forward compatibility was attempted on non supported HW"),
    ("FabricNotReady", "Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized"),
    ("DriverMismatch", "Failed to initialize NVML: Driver/library version mismatch"),
    ("NoKernelImage", "NVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not compatible with the current "
     "PyTorch installation."),
    ("NoKernelImage", "    Found GPU0 NVIDIA B200 which is of compute capability (CC) 10.0."),
    ("NoKernelImage", "Your installed torch==2.14.0 does not include kernels for this GPU."),
    ("NoKernelImage", "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device"),
    ("NoKernelImage", "CUDA error: device kernel image is invalid"),
    ("PtxTooNew", "CUDA error: the provided PTX was compiled with an unsupported toolchain."),
    ("NoPtxCompiler", "CUDA error: PTX JIT compiler library not found"),
    ("NoPtxCompiler", "CUDA error: PTX JIT compilation was disabled"),
    ("TorchWithoutCuda", "AssertionError: Torch not compiled with CUDA enabled"),
    ("RequirementUnsatisfied", "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please "
     "update your driver to a newer version, or use an earlier cuda container: unknown"),
    ("RequirementUnsatisfied", "unsatisfied condition: brand = tesla"),
    ("RequirementUnsatisfied", "requirements not met: unsatisfied condition: cuda>=12.4 (12.2)"),
    ("LibraryMissing", "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory"),
    ("LibraryShadowed", "undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12"),
    ("WrongCpuArchitecture", "exec /usr/bin/python3: exec format error"),
    ("WrongCpuArchitecture", "failed to pull and unpack image: no match for platform in manifest: not found"),
    ("WrongCpuArchitecture", "no matching manifest for linux/arm64/v8 in the manifest list entries"),
    ("WrongCpuArchitecture", "choosing an image from manifest list: no image found in image index for architecture "
     '"arm64", variant "v8", OS "linux"'),
    ("StubLibrary", "CUDA error: CUDA driver is a stub library"),
    ("CallNeedsNewerDriver", "CUDA error: API call is not supported in the installed CUDA driver"),
    ("NoDevice", "RuntimeError: CUDA error: no CUDA-capable device is detected"),
    ("DeviceBusy", "CUDA error: all CUDA-capable devices are busy or unavailable"),
    ("ModuleMissing", "ModuleNotFoundError: No module named 'torch'"),
    ("SymbolNotFound", "CUDA error: named symbol not found"),
    ("SymbolNotFound", "cudaErrorSymbolNotFound: named symbol not found"),
    ("NoKernelImage", "    No published PyTorch CUDA builds for release 2.14.0 support this GPU."),
    ("NoDriver", "load library failed: libnvidia-ml.so.1: cannot open shared object file: no such file or directory"),
    ("RequirementUnsatisfied", "unsatisfied condition: brand = quadrortx: unknown"),
    ("RequirementUnsatisfied", "unsatisfied condition: cuda >= 9.0"),
    ("InitializationFailed", "RuntimeError: CUDA error: initialization error"),
    ("DriverMismatch", "CUDA error: system has unsupported display driver / cuda driver combination"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "line"), LINES, ids=[f"{key}-{n}" for n, (key, _) in enumerate(LINES)])
def test_known_lines(key: str, line: str) -> None:
    [found] = diagnose(["epoch 1", f"\x1b[31m{line}\x1b[0m", "epoch 2"])
    assert found.key == key
    assert found.line == line.strip()
    assert found.cause
    assert found.remedy
    assert "{" not in found.cause


def test_numbers_are_told() -> None:
    [found] = diagnose([LINES[1][1]])
    assert "CUDA 12.2" in found.cause
    [refused] = diagnose([LINES[23][1]])
    assert "asks for cuda>=12.8 " in refused.cause


def test_the_interpreter_is_named() -> None:
    [found] = diagnose(
        ["ModuleNotFoundError: No module named 'torch.cuda'"], python=RunPython("/venv/bin/python")
    )
    assert found.cause == "torch.cuda isn't installed for /venv/bin/python"


def test_in_an_image_another_interpreter_of_this_machine_is_no_remedy() -> None:
    missing = ["ModuleNotFoundError: No module named 'einops'"]
    [found] = diagnose(missing, python=RunPython("python3"), in_image=True)
    assert found.cause == "einops isn't installed for python3"
    assert "gpuyard build --requirements" in found.remedy and "--python" not in found.remedy
    [found] = diagnose(missing)
    assert "--python" in found.remedy


def test_each_cause_once_and_the_first_first() -> None:
    keys = [found.key for found in diagnose([LINES[1][1], LINES[2][1], LINES[22][1], LINES[1][1]])]
    assert keys == ["DriverTooOld", "TorchWithoutCuda"]


def test_ordinary_output_says_nothing() -> None:
    assert diagnose(["step 803 loss 0.2", "RuntimeError: shapes differ", "CUDA is on", "x" * 100_000]) == []


#: Warnings and notes as programs that go on print them.
NOTICES = [
    # The start script of NVIDIA's containers: shinit_v2, entrypoint.d; triton-inference-server/server#8279
    """WARNING: CUDA Minor Version Compatibility mode ENABLED.
  Using driver version 525.147.05 which has support for CUDA 12.0.  This container
  was built with CUDA 12.9 and will be run in Minor Version Compatibility mode.
  CUDA Forward Compatibility is preferred over Minor Version Compatibility for use
  with this container but was unavailable:
  [[System has unsupported display driver / cuda driver combination (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH) cuInit()=803]]
  See https://docs.nvidia.com/deploy/cuda-compatibility/ for details.""",
    """WARNING: CUDA Minor Version Compatibility mode ENABLED.
  Using driver version 510.108.03 which has support for CUDA 11.6.  This container
  was built with CUDA 11.8 and will be run in Minor Version Compatibility mode.
  CUDA Forward Compatibility is preferred over Minor Version Compatibility for use
  with this container but was unavailable:
  [[Forward compatibility was attempted on non supported HW (CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE) cuInit()=804]]""",
    """WARNING: CUDA Minor Version Compatibility mode ENABLED.
  CUDA Forward Compatibility is preferred over Minor Version Compatibility for use
  with this container but was unavailable:
  [[No CUDA-capable device is detected (CUDA_ERROR_NO_DEVICE) cuInit()=100]]""",
    """NOTE: CUDA Forward Compatibility mode ENABLED.
  Using CUDA 12.4 driver version 550.54.14 with kernel driver version 535.104.05.
  See https://docs.nvidia.com/deploy/cuda-compatibility/ for details.""",
    "NOTE: Legacy NVIDIA Driver detected.  Compatibility mode ENABLED.",
    """NOTE: The SHMEM allocation limit is set to the default of 64MB.  This may be
   insufficient for PyTorch.  NVIDIA recommends the use of the following flags:
   docker run --gpus all --ipc=host --ulimit memlock=-1 --ulimit stack=67108864 ...""",
    "NOTE: MOFED driver for multi-node communication was not detected.",
    "WARNING: Detected NVIDIA GB10 GPU, which may not yet be supported in this version of the container",
    "WARNING: Detected NVIDIA GeForce RTX 3090 GPU, which is not yet supported in this version of the container",
    """WARNING: The NVIDIA Driver was not detected.  GPU functionality will not be available.
   Use the NVIDIA Container Toolkit to start this container with GPU support; see""",
    # TensorFlow
    "I external/local_tsl/tsl/cuda/cudart_stub.cc:32] Could not find cuda drivers on your machine, GPU will not be used.",
    "W tensorflow/stream_executor/platform/default/dso_loader.cc:64] Could not load dynamic library 'libcudart.so.11.0'; dlerror: "
    "libcudart.so.11.0: cannot open shared object file: No such file or directory",
    "W tensorflow/stream_executor/platform/default/dso_loader.cc:64] Could not load dynamic library 'libcuda.so.1'; dlerror: "
    "libcuda.so.1: cannot open shared object file: No such file or directory",
    "W tensorflow/compiler/xla/stream_executor/platform/default/dso_loader.cc:64] Could not load dynamic library 'libnvinfer.so.7'; "
    "dlerror: libnvinfer.so.7: cannot open shared object file: No such file or directory",
    "I tensorflow/stream_executor/cuda/cudart_stub.cc:29] Ignore above cudart dlerror if you do not have a GPU set up on your machine.",
    "E external/local_xla/xla/stream_executor/cuda/cuda_driver.cc:266] failed call to cuInit: CUDA_ERROR_NO_DEVICE: no CUDA-capable "
    "device is detected",
    "W tensorflow/compiler/tf2tensorrt/utils/py_utils.cc:38] TF-TRT Warning: Could not find TensorRT",
    "E external/local_xla/xla/stream_executor/cuda/cuda_dnn.cc:9261] Unable to register cuDNN factory: Attempting to register factory "
    "for plugin cuDNN when one has already been registered",
    # JAX
    "INFO:jax._src.xla_bridge:Unable to initialize backend 'rocm': NOT_FOUND: Could not find registered platform with name: \"rocm\"",
    "INFO:jax._src.xla_bridge:Unable to initialize backend 'tpu': INTERNAL: Failed to open libtpu.so: libtpu.so: cannot open shared "
    "object file: No such file or directory",
    "An NVIDIA GPU may be present on this machine, but a CUDA-enabled jaxlib is not installed. Falling back to cpu.",
    # torch, torchvision, xformers
    "UserWarning: Can't initialize NVML",
    "UserWarning: torch.cuda.amp.GradScaler is enabled, but CUDA is not available.  Disabling.",
    "UserWarning: 'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't be used.",
    "UserWarning: Attempting to run cuBLAS, but there was no current CUDA context! Attempting to set the primary context...",
    "UserWarning: This DataLoader will create 16 worker processes in total. Our suggested max number of worker in current system is 8",
    "FutureWarning: The pynvml package is deprecated. Please install nvidia-ml-py instead.",
    "[W CUDAAllocatorConfig.h:28] Warning: expandable_segments not supported on this platform (function operator())",
    "[W socket.cpp:697] [c10d] The client socket has failed to connect to [localhost]:29500 (errno: 99 - Cannot assign requested "
    "address).",
    "[W socket.cpp:464] [c10d] The server socket cannot be initialized on [::]:29500 (errno: 97 - Address family not supported by "
    "protocol).",
    "[rank0]:[W528 11:36:41.374093261 ProcessGroupNCCL.cpp:1505] Warning: WARNING: destroy_process_group() was not called before "
    "program exit, which can leak resources.",
    "torchvision/io/image.py:13: UserWarning: Failed to load image Python extension: libcudart.so.11.0: cannot open shared object "
    "file: No such file or directory",
    "torchvision/io/image.py:13: UserWarning: Failed to load image Python extension: 'libcudart.so.12: cannot open shared object "
    "file: No such file or directory'If you don't plan on using image functionality from `torchvision.io`, you can ignore this",
    "WARNING[XFORMERS]: xFormers can't load C++/CUDA extensions. xFormers was built for: PyTorch 2.1.2+cu121 with CUDA 1201",
    """A matching Triton is not available, some optimizations will not be enabled
Traceback (most recent call last):
  File "/usr/lib/python3.11/site-packages/xformers/__init__.py", line 57, in _is_triton_available
    import triton  # noqa
ModuleNotFoundError: No module named 'triton'""",
    # NCCL, DeepSpeed, bitsandbytes, vLLM, ptxas, torchrun
    "NCCL INFO NET/Plugin : dlerror=libnccl-net.so: cannot open shared object file: No such file or directory No plugin found",
    "NCCL INFO cudaDriverVersion 12040",
    "[WARNING]  async_io requires the dev libaio .so object and headers but these were not found.",
    "Could not find the bitsandbytes CUDA binary at PosixPath('/usr/lib/bitsandbytes/libbitsandbytes_cuda129.so')",
    "The installed version of bitsandbytes was compiled without GPU support. 8-bit optimizers, 8-bit multiplication, and GPU "
    "quantization are unavailable.",
    "WARNING 06-12 [topk_topp_sampler.py:59] FlashInfer is not available. Falling back to the PyTorch-native implementation of "
    "top-p & top-k sampling.",
    "ptxas warning : Value of threads per SM for entry kernel is out of range. .minnctapersm will be ignored",
    "Setting OMP_NUM_THREADS environment variable for each process to be 1 in default, to avoid your system being overloaded",
    # NVIDIA's kernel module
    "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build  (root@)",
]  # fmt: skip


@pytest.mark.parametrize("notice", NOTICES, ids=range(len(NOTICES)))
def test_a_notice_of_a_program_that_goes_on_is_no_cause(notice: str) -> None:
    assert diagnose(notice.splitlines(), in_image=True) == []


def remedy_of(module: str, *, in_image: bool = False, **known: Any) -> str:
    line = f"ModuleNotFoundError: No module named '{module}'"
    [found] = diagnose([line], python=RunPython(**known), in_image=in_image)
    return found.remedy


def test_a_shell_with_a_pythonpath_is_told_to_pass_it_on() -> None:
    plain, found = remedy_of("mylib"), remedy_of("mylib", has_pythonpath=True)
    assert "--python" in plain and "PYTHONPATH" not in plain
    assert "--env PYTHONPATH passes it on" in found and "--python" not in found
    assert "PYTHONPATH" not in remedy_of("mylib", has_pythonpath=True, in_image=True)


def test_another_interpreter_is_named_where_one_is_known() -> None:
    assert "such as" not in remedy_of("mylib")
    assert remedy_of("mylib", other="/usr/bin/python3").endswith("by --python, such as /usr/bin/python3")


def test_a_module_of_the_runs_own_folder() -> None:
    def find(module: str) -> str:
        return {"pkg.sub": ".", "lib": "src"}.get(module, "")

    assert "--env PYTHONPATH=. " in remedy_of("pkg.sub", find_module=find)
    assert "python -m" not in remedy_of("pkg.sub", find_module=find)
    assert remedy_of("pkg.sub", find_module=find, as_module="scripts.t").endswith("python -m scripts.t")
    below = remedy_of("lib", find_module=find, as_module="scripts.t", has_pythonpath=True)
    assert "--env PYTHONPATH=src " in below and "python -m" not in below
    assert "PYTHONPATH" not in remedy_of("lib", find_module=find, in_image=True)


@pytest.mark.parametrize(
    ("module", "meant"),
    [("torhc", "torch"), ("nmupy", "numpy"), ("trasformers", "transformers"), ("sklaern.svm", "sklearn")],
)
def test_a_mistyped_module(module: str, meant: str) -> None:
    assert remedy_of(module).startswith(f"did you mean {meant}? Else install it")
    assert remedy_of(module, in_image=True).startswith(f"did you mean {meant}? Else use an image")


@pytest.mark.parametrize("module", ["torch", "torchx", "numpy_financial", "mylib", "torch.cuda", "models"])
def test_a_module_of_its_own_name_isnt_mistyped(module: str) -> None:
    assert "did you mean" not in remedy_of(module)


@pytest.mark.parametrize(
    "line", ["Fatal Python error: Bus error", "Bus error (core dumped)", "was killed by SIGBUS"]
)
def test_a_bus_error_alone_doesnt_say_what_was_gone(line: str) -> None:
    [found] = diagnose([line])
    assert found.key == "BusError"
    assert "most often /dev/shm was full" in found.cause and "a mapped file shrank" in found.cause
    worker = "RuntimeError: DataLoader worker (pid 212) is killed by signal: Bus error."
    assert [each.key for each in diagnose([line, worker])] == ["SharedMemoryFull"]
