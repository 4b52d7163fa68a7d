from __future__ import annotations

from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.runs.target import Target, open_target


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUYARD_HOME", str(tmp_path))


async def opened(context: str | None = None, namespace: str | None = None) -> Target:
    async with open_target(context, namespace) as target:
        return target


async def test_a_yard_that_does_not_run() -> None:
    with pytest.raises(errors.YardStopped):
        await opened()


async def test_a_context_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(errors.UsageError):
        await opened("elsewhere")


async def test_what_can_not_be_a_namespace() -> None:
    with pytest.raises(errors.UsageError, match="can't be a namespace"):
        await opened(namespace="../x")
