# ruff: noqa: E501 - the texts are as they are printed
"""On what Python and torch really print: the programs are run where they are there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuyard.explain.causes import Cause
from gpuyard.explain.output.diagnosis import Diagnosis, diagnose

DEBIAN_PYTHON = "/usr/bin/python3"


def has_torch() -> bool:
    return Path("/usr/lib/python3/dist-packages/torch").is_dir()


needs_torch = pytest.mark.skipif(not has_torch(), reason="Debian's python3-torch isn't installed")


def found_in(code: str, python: str = sys.executable, **env: str) -> list[Diagnosis]:
    """What is found in the output of this program, which must fail."""
    done = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **env}
    )
    assert done.returncode != 0, done
    return diagnose([*done.stdout.splitlines(), *done.stderr.splitlines()])


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (Cause.GPU_ID_IS_UUID, "int('GPU-8932f937-d72c-4106-c12f-20bd9faed9f6')"),
        (Cause.GPU_ID_IS_UUID, "[int(i) for i in 'GPU-89,GPU-90'.split(',')]"),
        (Cause.MODULE_MISSING, "import no_module_of_this_name"),
        (Cause.DISK_FULL, "open('/dev/full', 'w', 1).write('x\\n')"),
        (Cause.PORT_IN_USE, "import socket as s; a = s.create_server(('127.0.0.1', 0)); s.create_server(a.getsockname())"),
        (Cause.OWN_TMP, "open('/tmp/gpuyard-no-such/data.bin')"),
        (Cause.CHILD_KILLED, "import subprocess as s; s.run(['sh', '-c', 'kill -9 $$'], check=True)"),
        (Cause.BUS_ERROR, "import subprocess as s; s.run(['sh', '-c', 'kill -BUS $$'], check=True)"),
        (Cause.CHILD_KILLED, "import os; from concurrent.futures import ProcessPoolExecutor as P; "
         "P(1).submit(os.abort).result()"),
    ],
)  # fmt: skip
def test_what_python_says(cause: Cause, code: str) -> None:
    assert [each.key for each in found_in(code)] == [cause]


def test_the_file_in_tmp_is_named() -> None:
    [found] = found_in("open('/tmp/gpuyard-no-such/data.bin')")
    assert "/tmp/gpuyard-no-such/data.bin" in found.cause
    [script] = diagnose(["python3: can't open file '/tmp/train.py': [Errno 2] No such file or directory"])
    assert script.key is Cause.OWN_TMP and "/tmp/train.py of" in script.cause


@pytest.mark.parametrize(
    "line",
    [
        "FileNotFoundError: [Errno 2] No such file or directory: '/data/tmp/x'",
        "writing checkpoints to /tmp/x",
        "Killed two birds with one stone",
        "[rank0] 12 Killed by early stopping",
        "epoch 3: source not found, skipped",
    ],
)
def test_lines_that_only_look_so_say_nothing(line: str) -> None:
    assert diagnose([line]) == []


DATASET = """
import os, signal, torch
class D(torch.utils.data.Dataset):
    def __len__(self): return 2
    def __getitem__(self, index): os.kill(os.getpid(), signal.{signal})
for _ in torch.utils.data.DataLoader(D(), num_workers=1): pass
"""


@needs_torch
def test_a_killed_worker_of_torch() -> None:
    found = found_in(DATASET.format(signal="SIGKILL"), DEBIAN_PYTHON)
    assert Cause.CHILD_KILLED in [each.key for each in found]


@needs_torch
def test_a_port_that_torch_finds_in_use() -> None:
    code = (
        "import socket as s, torch.distributed as d; a = s.create_server(('', 0)); "
        "d.TCPStore('127.0.0.1', a.getsockname()[1], 1, True)"
    )
    assert Cause.PORT_IN_USE in [each.key for each in found_in(code, DEBIAN_PYTHON)]


@pytest.mark.parametrize(
    ("cause", "line"),
    [
        (Cause.CUDA_OUT_OF_MEMORY, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a "
         "total capacity of 79.15 GiB of which 11.06 MiB is free."),
        (Cause.CUDA_OUT_OF_MEMORY, "RuntimeError: CUDA error: out of memory"),
        (Cause.CUDA_OUT_OF_MEMORY, "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        (Cause.SHARED_MEMORY_FULL, "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient "
         "shared memory (shm)."),
        (Cause.SHARED_MEMORY_FULL, "RuntimeError: DataLoader worker (pid 212) is killed by signal: Bus error. It is possible "
         "that dataloader's workers are out of shared memory. Please try to raise your shared memory limit."),
        (Cause.SHARED_MEMORY_FULL, "RuntimeError: unable to write to file </torch_212_3_0>: No space left on device (28)"),
        (Cause.SHARED_MEMORY_FULL, "OSError: [Errno 28] No space left on device: '/dev/shm/psm_1'"),
        (Cause.CHILD_KILLED, "RuntimeError: DataLoader worker (pid 212) is killed by signal: Killed. "),
        (Cause.CHILD_KILLED, "  traceback : Signal 9 (SIGKILL) received by PID 212"),
        (Cause.PORT_IN_USE, "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network "
         "address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"),
    ],
)  # fmt: skip
def test_lines_that_need_a_gpu_or_much_memory(cause: Cause, line: str) -> None:
    assert [each.key for each in diagnose([line])] == [cause]
