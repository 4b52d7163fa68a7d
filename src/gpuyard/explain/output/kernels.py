"""Lines that say that a program has no code for the GPU that it runs on, and which of them are false alarms.

The texts are those of torch 1.13 to 2.15 (`torch/cuda/__init__.py`), of the start script of NVIDIA's
containers, of Triton's ptxas, flash-attention 2, vLLM and CUTLASS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gpuyard.explain.causes import Cause
from gpuyard.explain.output.known_lines import known

OTHER_BUILD = "install a torch that has kernels for this GPU: `gpuyard image check` names a variant"
_OTHER_GPU = "use an image that supports this GPU: `gpuyard image check` names one"

#: A warning of torch's begins so, and has so many lines.
_BEGINS = re.compile(r"Found GPU\d+ |with CUDA capability sm_\d")
_MOST_LINES = 16
_DEVICE = re.compile(
    r"(?:cuda capability|compute capability \(CC\)) (\d+)\.(\d)|with CUDA capability sm_(\d+)(\d)[af]?\b"
)
#: What torch was built for, as the warnings name it: `- 8.0 which supports …`, `sm_80`, `(8.0) - (12.0)`.
_BUILT = re.compile(r"- (\d+)\.(\d) which supports|\bsm_(\d+)(\d)[af]?\b|\((\d+)\.(\d)\)")
_GB10 = (12, 1)


def _is_false_alarm(lines: Sequence[str], at: int) -> bool:
    """Whether a warning of torch's is about a GPU that its code runs on all the same.

    Code runs on GPUs of the same major compute capability with a minor one that is no less. torch up to 2.10
    warned of each that was outside its list, as GB10 (12.1) is outside of 8.0 to 12.0.
    Reports: pytorch/pytorch#172629, #164708, eugr/spark-vllm-docker#15.
    """
    begins = [n for n in range(max(0, at - _MOST_LINES), at + 1) if _BEGINS.search(lines[n])]
    if not begins:
        return False
    begin = begins[-1]
    rest = lines[begin + 1 : begin + _MOST_LINES]
    until = next((n for n, line in enumerate(rest) if _BEGINS.search(line)), len(rest))
    text = " ".join((lines[begin], *rest[:until]))
    device = _DEVICE.search(text)
    if device is None or "too old" in text:
        return False
    [capability] = _capabilities([device])
    built = _capabilities(_BUILT.finditer(text, device.end()))
    if not built:
        # All wheels for arm64 with a CUDA that knows GB10 have code for 12.0.
        return capability == _GB10
    return any(major == capability[0] and minor <= capability[1] for major, minor in built)


def _capabilities(matches: Iterable[re.Match[str]]) -> list[tuple[int, int]]:
    groups = [[text for text in match.groups() if text] for match in matches]
    return [(int(major), int(minor)) for major, minor in groups]


def _names_the_gpu(lines: Sequence[str], at: int) -> bool:
    return any("supported by this container" in line for line in lines[max(0, at - 8) : at])


KERNEL_LINES = (
    known(
        Cause.NO_KERNEL_IMAGE,
        r"no kernel image is available for execution on the device|device kernel image is invalid|"
        r"CUDA_ERROR_NO_BINARY_FOR_GPU|cudaErrorNoKernelImageForDevice",
        "the image's GPU code wasn't built for this GPU (error 209 or 200)",
        OTHER_BUILD,
    ),
    known(
        Cause.NO_KERNEL_IMAGE,
        r"with CUDA capability (?P<sm>sm_\d+[af]?) is not compatible with the current PyTorch",
        "torch has no kernels for {sm}, this GPU's architecture",
        OTHER_BUILD,
        unless=_is_false_alarm,
    ),
    known(
        Cause.NO_KERNEL_IMAGE,
        r"Found GPU\d+ .*which is of (?:compute capability \(CC\)|cuda capability) "
        r"(?P<capability>\d+\.\d)",
        "torch has no kernels for this GPU, whose compute capability is {capability}",
        OTHER_BUILD,
        unless=_is_false_alarm,
    ),
    known(
        Cause.NO_KERNEL_IMAGE,
        r"no longer supports this GPU because it is too old|is of cuda capability \d+\.\d|"
        r"Minimum and Maximum cuda capability supported|does not include kernels for this GPU|"
        r"No published PyTorch CUDA builds for release",
        "torch has no kernels for this GPU",
        OTHER_BUILD,
        unless=_is_false_alarm,
    ),
    known(
        Cause.NO_KERNEL_IMAGE,
        r"Detected (?P<gpu>.+) GPU, which is not supported by this container",
        "the image doesn't support {gpu}: it is too old for it",
        _OTHER_GPU,
    ),
    known(
        Cause.NO_KERNEL_IMAGE,
        r"No (?:NVIDIA )?supported GPU\(s\) detected to run this container",
        "the image found no GPU that it supports: it is too old or too new for the image, or none is there",
        f"{_OTHER_GPU}; ask for GPUs with --gpus where it had none",
        unless=_names_the_gpu,
    ),
    known(
        Cause.NO_KERNEL_IMAGE,
        r"GPU with CUDA capability (?P<major>\d+) (?P<minor>\d) is not supported",
        "flash-attention, or another library, has no kernels for this GPU, whose compute capability is "
        "{major}.{minor}",
        "install a build of it for this GPU, do without it, or choose other GPUs (--gpus MODEL:N)",
    ),
    known(
        Cause.NO_KERNEL_IMAGE,
        r"No compiled (?P<kernel>\w+) for (?:a compute capability less than )?"
        r"CUDA device capability: (?P<sm>\d+)",
        "vLLM has no kernel {kernel} for this GPU, sm_{sm}: what the model is quantised with needs it",
        "use a model that isn't quantised so, a vLLM for this GPU, or other GPUs (--gpus MODEL:N)",
    ),
    known(
        Cause.NO_KERNEL_IMAGE,
        r"\bis for sm\d+(?:-sm\d+)?, but was built for sm(?P<sm>\d+)",
        "a kernel for attention, of torch or xformers, has no code for this GPU: it was built for sm_{sm}",
        f"{OTHER_BUILD}; the same holds of xformers",
    ),
    known(
        Cause.NO_KERNEL_IMAGE,
        r"ptxas fatal\s*: Value '(?P<sm>sm_\w+)' is not defined for option 'gpu-name'",
        "the compiler that Triton brings (ptxas) is older than this GPU and doesn't know {sm}",
        "install a newer triton, or name a newer ptxas in env: TRITON_PTXAS_PATH=/usr/local/cuda/bin/ptxas",
    ),
)  # fmt: skip
