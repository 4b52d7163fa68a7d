"""gpuyard takes a PyTorch script to a scheduled GPU.

    import gpuyard

    with gpuyard.connect() as yard:
        run = yard.run("train.py", gpus=2)
        for line in run.logs(follow=True):
            print(line)
        print(run.wait().exit_code)

`connect_async` has the same names for programs with an event loop; `errors` has every exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["AsyncRun", "AsyncYard", "Run", "Yard", "__version__", "connect", "connect_async", "errors"]

if TYPE_CHECKING:
    from gpuyard import errors
    from gpuyard.python_api.asynchronous import AsyncRun, AsyncYard, connect_async
    from gpuyard.python_api.blocking import Run, Yard, connect

_HOMES = {
    "AsyncRun": "gpuyard.python_api.asynchronous",
    "AsyncYard": "gpuyard.python_api.asynchronous",
    "connect_async": "gpuyard.python_api.asynchronous",
    "Run": "gpuyard.python_api.blocking",
    "Yard": "gpuyard.python_api.blocking",
    "connect": "gpuyard.python_api.blocking",
}


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: every command imports this package, and few need this.
    import importlib

    if name == "errors":
        return importlib.import_module("gpuyard.errors")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
