"""Tells when whoever started this process is gone: it holds the other end of our standard input."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable


def on_stdin_closed(callback: Callable[[], object]) -> None:
    """Calls `callback` in the running loop once standard input has reached its end."""
    loop = asyncio.get_running_loop()

    def drain() -> None:
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass  # A standard input that can't be read has ended, too.
        try:
            loop.call_soon_threadsafe(callback)
        except RuntimeError:
            pass  # The loop is closed: this process is ending anyway.

    # A daemon thread, since nothing can interrupt its read when the process ends for another reason.
    threading.Thread(target=drain, name="stdin", daemon=True).start()
