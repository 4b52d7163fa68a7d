"""Keeps modules from being loaded that the agent's libraries import and never use here.

They are a third of what an agent takes until it has registered, and as long a node's pods get no GPUs.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any, Self


def leave_out() -> None:
    """To be called before anything else is imported."""
    # Nothing here forks without exec, and gRPC's fork handlers cost threads and have deadlocked. It is read
    # when gRPC is imported.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    # The kubelet waits for each answer, and without its newer listener gRPC takes a sixth less for one: fewer
    # threads pass it on.
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
    # Asyncio does without TLS when Python has none, and so does the agent, which knows unix sockets only:
    # OpenSSL would be 2 MB of the 40 that the process may take.
    sys.modules["ssl"] = None  # type: ignore[assignment]
    _leave_out_protobuf_in_python()
    sys.modules.setdefault("typing_extensions", _TypingExtensions("typing_extensions"))


def _leave_out_protobuf_in_python() -> None:
    """Messages as protobuf has them where its extension in C isn't installed."""
    try:
        importlib.import_module("google._upb._message")
    except ImportError:
        return
    name = "google.protobuf.internal.python_message"
    sys.modules.setdefault(name, ModuleType(name))


class _TypingExtensions(ModuleType):
    """What gRPC wants of it; the real one for whoever wants more."""

    Self = Self

    @staticmethod
    def override(method: Any) -> Any:
        """For type checkers."""
        return method

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)
