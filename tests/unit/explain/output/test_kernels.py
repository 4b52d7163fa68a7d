# ruff: noqa: E501 - the texts are as they are printed
"""On warnings and errors as public reports have them; where each is from stands beside it."""

from __future__ import annotations

import pytest

from gpuyard.explain.causes import Cause
from gpuyard.explain.output.diagnosis import Diagnosis, diagnose

# vllm-project/vllm#19185
TOO_OLD = """\
/usr/local/lib/python3.12/dist-packages/torch/cuda/__init__.py:262: UserWarning:
    Found GPU0 Tesla V100-PCIE-16GB which is of cuda capability 7.0.
    PyTorch no longer supports this GPU because it is too old.
    The minimum cuda capability supported by this library is 7.5.

  warnings.warn(
/usr/local/lib/python3.12/dist-packages/torch/cuda/__init__.py:287: UserWarning:
Tesla V100-PCIE-16GB with CUDA capability sm_70 is not compatible with the current PyTorch installation.
The current PyTorch install supports CUDA capabilities sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120.
If you want to use the Tesla V100-PCIE-16GB GPU with PyTorch, please check the instructions at https://pytorch.org/get-started/locally/

  warnings.warn(
RuntimeError: CUDA error: no kernel image is available for execution on the device"""
# torch/cuda/__init__.py of torch 2.9, on a V100 with the wheel for CUDA 13.0
OUT_OF_RANGE = """\
/usr/local/lib/python3.12/site-packages/torch/cuda/__init__.py:283: UserWarning:
    Found GPU0 Tesla V100-SXM2-16GB which is of cuda capability 7.0.
    Minimum and Maximum cuda capability supported by this version of PyTorch is
    (7.5) - (12.0)

  warnings.warn(
/usr/local/lib/python3.12/site-packages/torch/cuda/__init__.py:304: UserWarning:
    Please install PyTorch with a following CUDA
    configurations:  12.6 following instructions at
    https://pytorch.org/get-started/locally/
"""
# A GTX 1070 Ti, torch 2.10 for CUDA 12.8: ultralytics' guides have it
NOT_IN_LIST = """\
C:\\miniconda3\\Lib\\site-packages\\torch\\cuda\\__init__.py:384: UserWarning: Found GPU0 NVIDIA GeForce GTX 1070 Ti which is of compute capability (CC) 6.1.
The following list shows the CCs this version of PyTorch was built for and the hardware CCs it supports:
- 7.5 which supports hardware CC >=7.5,<8.0
- 8.0 which supports hardware CC >=8.0,<9.0 except {8.7}
- 8.6 which supports hardware CC >=8.6,<9.0 except {8.7}
- 9.0 which supports hardware CC >=9.0,<10.0
- 10.0 which supports hardware CC >=10.0,<11.0 except {10.1}
- 12.0 which supports hardware CC >=12.0,<13.0
Please follow the instructions at https://pytorch.org/get-started/locally/ to install a PyTorch release that supports one of these CUDA versions: 12.6
  _warn_unsupported_code(d, device_cc, code_ccs)"""
# lmoe/wyoming-xtts#1
NEWER = """\
/opt/venv/lib/python3.11/site-packages/torch/cuda/__init__.py:287: UserWarning:
NVIDIA GeForce RTX 5060 Ti with CUDA capability sm_120 is not compatible with the current PyTorch installation.
The current PyTorch install supports CUDA capabilities sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90.
If you want to use the NVIDIA GeForce RTX 5060 Ti GPU with PyTorch, please check the instructions at https://pytorch.org/get-started/locally/"""
# pytorch/pytorch#172629
GB10 = """\
/app/.venv/lib/python3.12/site-packages/torch/cuda/__init__.py:283: UserWarning:
    Found GPU0 NVIDIA GB10 which is of cuda capability 12.1.
    Minimum and Maximum cuda capability supported by this version of PyTorch is
    (8.0) - (12.0)

  warnings.warn("""
# The same issue, of torch 2.13: the list is left out there.
GB10_WITHOUT_LIST = """\
UserWarning: Found GPU0 NVIDIA GB10 which is of compute capability (CC) 12.1.
Your installed torch==2.13.0+cu130 does not include kernels for this GPU."""
# eugr/spark-vllm-docker#15, as a logger prints it
GB10_IN_ONE_LINE = "(EngineCore pid=91) Found GPU0 NVIDIA GB10 which is of cuda capability 12.1. Minimum and Maximum cuda capability supported by this version of PyTorch is (8.0) - (12.0)"
GB10_BY_SM = """\
/usr/local/lib/python3.12/dist-packages/torch/cuda/__init__.py:287: UserWarning:
NVIDIA GB10 with CUDA capability sm_121 is not compatible with the current PyTorch installation.
The current PyTorch install supports CUDA capabilities sm_80 sm_90 sm_100 sm_110 sm_120 compute_120."""
# pytorch/pytorch#164708
RTX_6000_ADA = """\
/path/to/torch/cuda/__init__.py:284: UserWarning:
    Found GPU0 NVIDIA RTX 6000 Ada Generation which is of cuda capability 8.9.
    Minimum and Maximum cuda capability supported by this version of PyTorch is
    (8.9) - (9.0)
"""
# An Orin with NVIDIA's wheels, on which sm_80 runs: visionanalysis.org, hardware/jetson_orin
ORIN = """\
UserWarning: Found GPU0 Orin which is of compute capability (CC) 8.7.
The following list shows the CCs this version of PyTorch was built for and the hardware CCs it supports:
- 8.0 which supports hardware CC >=8.0,<9.0 except {8.7}
- 9.0 which supports hardware CC >=9.0,<10.0
- 12.0 which supports hardware CC >=12.0,<13.0
No published PyTorch CUDA builds for release 2.13.0+cu130 support this GPU."""
# triton-inference-server/server#8279
NGC_V100 = """\
ERROR: Detected Tesla V100S-PCIE-32GB GPU, which is not supported by this container
ERROR: No supported GPU(s) detected to run this container
"""


def found_in(text: str) -> list[Diagnosis]:
    return diagnose(["epoch 1", *text.splitlines(), "epoch 2"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TOO_OLD, "is 7.0"),
        (OUT_OF_RANGE, "is 7.0"),
        (NOT_IN_LIST, "is 6.1"),
        (NEWER, "sm_120"),
        (NGC_V100, "Tesla V100S-PCIE-32GB"),
        ("    PyTorch no longer supports this GPU because it is too old.", ""),
        ("    Minimum and Maximum cuda capability supported by this version of PyTorch is", ""),
        ("    Your installed torch==2.14.0+cu130 does not include kernels for this GPU.", ""),
        # fauxpilot/fauxpilot#104
        ("ERROR: No supported GPU(s) detected to run this container", "too old or too new"),
        # huggingface/text-generation-inference#533, Dao-AILab/flash-attention#524
        ("ImportError: GPU with CUDA capability 7 0 is not supported", "is 7.0"),
        # vllm-project/vllm#9419 and #32109
        ("NotImplementedError: Error in calling custom op cutlass_scaled_mm: No compiled cutlass_scaled_mm for a compute "
         "capability less than CUDA device capability: 75", "sm_75"),
        ("RuntimeError: No compiled cutlass_scaled_mm for CUDA device capability: 120", "cutlass_scaled_mm"),
        # GuigsEvt/dgx_spark_config#5, dmMaze/BallonsTranslator#1148, TheLastBen/fast-stable-diffusion#33
        ("FATAL: kernel `fmha_cutlassF_f32_aligned_64x64_rf_sm80` is for sm80-sm100, but was built for sm75", "sm_75"),
        ("FATAL: this function is for sm80, but was built for sm750", "sm_750"),
        ("ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'", "sm_121a"),
    ],
)  # fmt: skip
def test_no_code_for_this_gpu(text: str, said: str) -> None:
    [found] = found_in(text)
    assert found.key is Cause.NO_KERNEL_IMAGE
    assert said in found.cause
    assert "{" not in found.cause + found.remedy


@pytest.mark.parametrize("text", [GB10, GB10_WITHOUT_LIST, GB10_IN_ONE_LINE, GB10_BY_SM, RTX_6000_ADA, ORIN])
def test_a_warning_about_a_gpu_that_the_code_runs_on_is_no_cause(text: str) -> None:
    assert found_in(text) == []


def test_what_follows_a_false_alarm_is_seen() -> None:
    error = "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device"
    [found] = found_in(f"{GB10}\n{error}")
    assert found.line == error
    # Of two GPUs the second is the one that it has no code for.
    [found] = found_in(GB10 + "\n" + OUT_OF_RANGE.replace("GPU0", "GPU1"))
    assert "is 7.0" in found.cause
