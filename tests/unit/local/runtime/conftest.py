from __future__ import annotations

import itertools
import os
import resource
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpuyard.local.runtime.cgroups import Cgroups
from gpuyard.local.runtime.container import Container
from gpuyard.local.runtime.process.sandbox import Isolation, find_isolation, no_isolation
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.runtime.values import ContainerSpec

_NUMBERS = itertools.count()


def utc_now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gy-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


@contextmanager
def _no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as next_free:
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_free.fileno(), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def no_descriptors() -> Callable[[], AbstractContextManager[None]]:
    """Within it this process can open nothing."""
    return _no_descriptors


@pytest.fixture
async def bubblewrap() -> Isolation:
    isolation = await find_isolation(os.environ["PATH"])
    if isolation.level == "none":
        pytest.skip(isolation.warning)
    return isolation


@pytest.fixture(params=["bubblewrap", "none"])
async def runtime(request: pytest.FixtureRequest) -> Runtimes:
    isolation = no_isolation("not wanted")
    if request.param == "bubblewrap":
        isolation = await find_isolation(os.environ["PATH"])
        if isolation.level == "none":
            pytest.skip(isolation.warning)
    return Runtimes(isolation, Cgroups(), utc_now)


@pytest.fixture
async def start(runtime: Runtimes, folder: Path) -> AsyncIterator[Callable[..., Awaitable[Container]]]:
    """Starts containers, each in a folder of its own, and leaves none alive."""
    started: list[Container] = []

    async def start_one(*argv: str, **fields: Any) -> Container:
        number = next(_NUMBERS)
        fields = {"env": {"PATH": "/usr/bin:/bin"}, "working_dir": str(folder), **fields}
        spec = ContainerSpec(name=f"test-{os.getpid()}-{number}", argv=argv, **fields)
        container = await runtime.start(folder / f"start-{number}", spec)
        started.append(container)
        return container

    yield start_one
    for container in started:
        container.close()
        found = await runtime.adopt(container.folder)
        if isinstance(found, Container):
            await found.stop(0)
            await found.wait()
