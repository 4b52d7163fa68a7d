"""Overwrites the free memory of NVIDIA GPUs, in a process of its own: a driver may hang, and CUDA takes room.

Started by its path and without `site`, with the path of libcuda and the UUIDs of whole GPUs, or that of one
MIG instance: CUDA shows a process no more of those. It prints a line of JSON for each: bytes that were free,
and bytes that were overwritten. What it takes goes back to the driver with its end.
Source: NVIDIA's CUDA driver API, "Memory Management".
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

_OUT_OF_MEMORY = 2
#: The driver gives memory in pieces of so much.
_LEAST_BYTES = 2 << 20
#: Less of what is free can't be told from a scrub that failed.
_LEAST_PART = 0.95


def _call(function: Any, *arguments: Any) -> None:
    if code := function(*arguments):
        raise OSError(f"CUDA's {function.__name__} fails with error {code}")


def scrub(cuda: ctypes.CDLL, number: int) -> tuple[int, int]:
    """Bytes of a GPU that were free, and that were overwritten.

    Args:
        cuda: the driver's library, initialised.
        number: the GPU's among those that are visible.

    Raises:
        OSError: the driver refuses, or gives too little of what is free.
    """
    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _call(cuda.cuDeviceGet, ctypes.byref(device), number)
    _call(cuda.cuDevicePrimaryCtxRetain, ctypes.byref(context), device)
    _call(cuda.cuCtxSetCurrent, context)
    _call(cuda.cuMemGetInfo_v2, ctypes.byref(free), ctypes.byref(total))
    done, size = 0, free.value
    while size >= _LEAST_BYTES:
        pointer = ctypes.c_uint64()
        code = cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(size))
        if code == _OUT_OF_MEMORY:
            size //= 2
            continue
        if code:
            raise OSError(f"CUDA's cuMemAlloc fails with error {code}")
        # Each piece is kept, so that the next one is other memory.
        _call(cuda.cuMemsetD8_v2, pointer, ctypes.c_ubyte(0), ctypes.c_size_t(size))
        done += size
        size = min(size, free.value - done)
    _call(cuda.cuCtxSynchronize)
    if done < _LEAST_PART * free.value:
        raise OSError(f"only {done >> 20} of {free.value >> 20} MiB that are free could be had")
    return free.value, done


def main(library: str, *uuids: str) -> int:
    """The process's exit code; what went wrong is on standard error."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(uuids)
    try:
        cuda = ctypes.CDLL(library)
        _call(cuda.cuInit, 0)
        for number, uuid in enumerate(uuids):
            free, done = scrub(cuda, number)
            told = {"uuid": uuid, "free_bytes": free, "overwritten_bytes": done}
            sys.stdout.write(f"{json.dumps(told)}\n")
    except (OSError, AttributeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
