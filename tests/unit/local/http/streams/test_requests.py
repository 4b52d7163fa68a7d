from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import CloseCode

from gpuyard import errors
from gpuyard.local.http.app import ApiApp
from gpuyard.local.objects.pod_logs import Log
from gpuyard.local.objects.verbs import ObjectApi
from gpuyard.local.runtime.standard_input.container_input import ContainerInput
from tests.unit.local.conftest import serving
from tests.unit.local.http.test_app import PODS, pod

from .conftest import connect, rest_of


class _Failing:
    """Logs and streams that fail: at once, or once the client has its stream."""

    def __init__(self, fault: Exception, *, is_late: bool) -> None:
        self._fault, self._is_late = fault, is_late

    async def exec(self, *asked: object) -> Any:
        raise self._fault

    async def connect(self, *asked: object) -> Any:
        raise self._fault

    async def attach(self, *asked: object) -> ContainerInput:
        return ContainerInput(None, stdin=False)

    async def open_log(self, *asked: object) -> Log:
        if not self._is_late:
            raise self._fault
        return Log(self._pieces())

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        yield b"some"
        raise self._fault


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (
            errors.ProcessError("can't read j", remedy="mend it"),
            CloseCode.NORMAL_CLOSURE,
            "can't read j: mend it",
        ),
        (OSError("a bug"), CloseCode.INTERNAL_ERROR, None),
    ],
)
@pytest.mark.parametrize(("path", "is_late"), [("exec", False), ("attach", False), ("attach", True)])
async def test_a_stream_that_fails_ends_its_connection(
    folder: Path,
    api: ObjectApi,
    path: str,
    is_late: bool,
    fault: Exception,
    code: CloseCode,
    said: str | None,
) -> None:
    failing, made = _Failing(fault, is_late=is_late), pod("a")
    made["spec"]["nodeName"] = "n"
    async with serving(folder, ApiApp(api, logs=failing, streams=failing)) as served, asyncio.timeout(60):
        assert (await served.http.post(PODS, json=made)).status_code == 201
        asked = {"command": "true", "stdout": "true"}
        async with connect(folder / "api.sock", f"a/{path}", **asked) as socket:
            answer = await rest_of(socket)
    assert socket.close_code == code
    assert (answer.status["message"] if said else answer.channels.get(3)) == said
