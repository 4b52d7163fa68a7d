"""Lines of Python and torch about memory, workers and modules.

The texts are those of Python 3.11 and torch 1.13 to 2.9.
"""

from __future__ import annotations

from gpuyard.explain.causes import Cause
from gpuyard.explain.output.known_lines import known

#: Where the module is probably found by the shell's own PYTHONPATH.
PASS_PYTHONPATH = (
    "the shell that submitted it had a PYTHONPATH, and runs don't get it by themselves: --env PYTHONPATH "
    "passes it on; else install the module for this interpreter"
)

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
        r"ModuleNotFoundError: No module named '(?P<module>\w+)",
        "{module} isn't installed for {python}",
        "--python names another interpreter, such as /usr/bin/python3, or install it for this one; "
        "--env PYTHONPATH passes on what your shell has there",
        "use an image that has it, or make one that has: `gpuyard build --requirements FILE`",
    ),
)  # fmt: skip
