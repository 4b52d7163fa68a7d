from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.cli.attachment import attached
from gpuyard.client.rest import RestApi
from gpuyard.runs.run import find_run
from gpuyard.runs.target import Target


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    """Nobody listens there."""
    options = ("--context", "kind", "--namespace", "team")
    async with RestApi(unix_socket=Path("/tmp/gpuyard-nobody")) as api:
        yield Target(api, "team", is_yard=False, options=options)


async def test_ctrl_c_after_the_submit_detaches_whatever_is_going_on(
    target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    async def print_something_first() -> int:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()
        return 1

    assert await attached(target, "a", print_something_first(), ours=True) == 0
    assert capsys.readouterr().err == (
        "\nDetached: a goes on. Attach again: gpuyard logs -f a --context kind --namespace team\n"
        "End it: gpuyard stop a --context kind --namespace team\n"
    )


@pytest.mark.parametrize(("ours", "code"), [(True, 125), (False, 1)])
async def test_our_own_failure_after_the_submit_is_code_125(target: Target, ours: bool, code: int) -> None:
    async def ask() -> int:
        await find_run(target, "a")
        return 0

    with pytest.raises(errors.ConnectionFailed) as caught:
        await attached(target, "a", ask(), ours=ours)
    assert caught.value.exit_code == code
    if ours:
        assert caught.value.remedy == "the run may go on: gpuyard show a --context kind --namespace team"
