"""What holds for all tests."""

from __future__ import annotations

import signal

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# What a shell starts in the background ignores SIGINT, and so would what tests start: whoever waits for one
# would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Whose tests share what takes long to make, so that one process runs them all. A name before what it begins.
_TOGETHER = ("tests/images", "tests/contract", "tests/cluster/installed", "tests/cluster")


class ByFolder(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each process a test at a time, and those of some folders to one process.

    xdist's own `loadgroup` does nothing with pytest 9, which keeps a test's name where xdist doesn't look.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in _TOGETHER if nodeid.startswith(f"{folder}/")), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFolder:
    return ByFolder(config, log)
