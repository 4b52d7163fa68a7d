from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gpuyard.local.store import Store


@pytest.fixture
async def open_store(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Store]]]:
    """Opens the store in tmp_path, again and again if wanted; all are closed at the end."""
    opened: list[Store] = []

    async def open_it(**settings: Any) -> Store:
        store = await Store.open(tmp_path / "store.db", **settings)
        opened.append(store)
        return store

    yield open_it
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store: Callable[..., Awaitable[Store]]) -> Store:
    return await open_store()
