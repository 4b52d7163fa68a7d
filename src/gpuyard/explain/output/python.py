"""Lines of Python and torch about memory, workers and modules.

The texts are those of Python 3.11 and torch 1.13 to 2.9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from gpuyard.advice import advice
from gpuyard.explain.causes import Cause
from gpuyard.explain.output.known_lines import known

#: What is often imported, and mistyped.
_WELL_KNOWN = (
    "accelerate", "bitsandbytes", "cupy", "datasets", "deepspeed", "diffusers", "einops", "fairscale",
    "flask", "gradio", "jax", "keras", "lightning", "matplotlib", "mlflow", "numba", "numpy",
    "omegaconf", "optuna", "pandas", "peft", "polars", "pyarrow", "pydantic", "pytorch_lightning",
    "requests", "safetensors", "scipy", "seaborn", "sentencepiece", "sklearn", "tensorboard",
    "tensorflow", "timm", "tokenizers", "torch", "torchaudio", "torchdata", "torchmetrics", "torchtext",
    "torchvision", "tqdm", "transformers", "triton", "wandb", "webdataset", "xformers", "xgboost",
    "yaml",
)  # fmt: skip
_LIKENESS = 0.8


def _nowhere(module: str) -> str:
    return ""


@dataclass(frozen=True)
class RunPython:
    """What is known of the Python that ran it.

    Attributes:
        name: what to call it, its path where that is known.
        other: the path of another one of that machine; empty where none is known.
        has_pythonpath: the shell that submitted the run had a PYTHONPATH, which the run was not given.
        find_module: the folder below the run's that has a module (`.`, `src`), and isn't looked into by
            itself; empty when there is none.
        as_module: its script as a module of the run's folder (`scripts.train`), where it is one.
    """

    name: str = "the Python that ran it"
    other: str = ""
    has_pythonpath: bool = False
    find_module: Callable[[str], str] = _nowhere
    as_module: str = ""


def missing_module(module: str, python: RunPython, in_image: str) -> str:
    """What helps where a module isn't found.

    Args:
        module: with its dots.
        python: that didn't find it.
        in_image: what helps in an image; empty for a process of a host.
    """
    if not in_image and (folder := python.find_module(module)):
        where = "the run's folder" if folder == "." else f"{folder} of the run's folder"
        passing = advice("--env PYTHONPATH=FOLDER").replace("FOLDER", folder)
        remedy = f"it is in {where}, and Python looks beside the script: {passing} adds that"
        if python.as_module and folder == ".":
            remedy += f"; or run the script as a module: python -m {python.as_module}"
        return remedy
    if in_image:
        remedy = in_image
    elif python.has_pythonpath:
        remedy = advice(
            "the shell that submitted it had a PYTHONPATH, and runs don't get it by themselves: "
            "--env PYTHONPATH passes it on; else install the module for this interpreter"
        )
    else:
        such_as = f", such as {python.other}" if python.other else ""
        remedy = advice("install it for this interpreter, or name another one by --python") + such_as
    return f"did you mean {meant}? Else {remedy}" if (meant := _meant(module)) else remedy


def _xformers_goes_on(lines: Sequence[str], at: int) -> bool:
    return any("A matching Triton is not available" in line for line in lines[max(0, at - 12) : at])


def _meant(module: str) -> str:
    """The well-known module of which this is a misspelling; `torchx` is none of torch."""
    name = module.partition(".")[0]
    near = get_close_matches(name, _WELL_KNOWN, n=1, cutoff=_LIKENESS)
    return near[0] if near and not name.startswith(near[0]) else ""


PYTHON_LINES = (
    known(
        Cause.CUDA_OUT_OF_MEMORY,
        r"(?:CUDA|HIP) out of memory|CUDA error: out of memory|CUDA_ERROR_OUT_OF_MEMORY|"
        r"CUBLAS_STATUS_ALLOC_FAILED",
        "the memory of the GPU is used up",
        "use a smaller batch, lower precision or checkpointed activations, or a GPU with more memory "
        "(--gpus MODEL:N); PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True in env helps against fragments",
    ),
    known(
        Cause.GPU_ID_IS_UUID,
        r"invalid literal for int\(\) with base 10: '(?:GPU|MIG)-",
        "the program takes CUDA_VISIBLE_DEVICES for numbers, and a run finds the UUIDs of its GPUs there",
        "give it numbers by --env GPUYARD_CUDA_INDEXES=1, or count with "
        "torch.cuda.device_count()",
    ),
    known(
        Cause.MODULE_MISSING,
        r"ModuleNotFoundError: No module named '(?P<module>\w[\w.]*)",
        "{module} isn't installed for {python}",
        "",  # `missing_module` says it
        "use an image that has it, or make one that has: `gpuyard build --requirements FILE`",
        unless=_xformers_goes_on,
    ),
)  # fmt: skip
