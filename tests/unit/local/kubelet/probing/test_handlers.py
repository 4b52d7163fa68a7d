from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gpuyard.local.kubelet.probing.answer import ProbeAnswer, ProbeResult
from gpuyard.local.kubelet.probing.handlers import ProbeTarget
from gpuyard.local.kubelet.probing.probe import ContainerProbe, ProbeKind

#: No name server is asked for these: Python itself takes them for no names.
NO_HOSTS = ["a..b", "a" * 64, "x\0y"]


class _BrokenStreams:
    """Starts no command, for a reason that nobody foresaw."""

    async def exec_in(self, *_: Any) -> Any:
        raise ValueError("embedded null byte")


def a_target() -> ProbeTarget:
    container: Any = SimpleNamespace(name="main", folder="/")
    streams: Any = _BrokenStreams()
    return ProbeTarget({"name": "main"}, container, streams, {})


async def probed(handler: dict[str, Any]) -> ProbeAnswer:
    return await a_target().probe(ContainerProbe(ProbeKind.READINESS, handler, timeout_s=10))


@pytest.mark.parametrize("host", NO_HOSTS)
async def test_a_host_that_is_none_does_not_answer(host: str) -> None:
    answer = await probed({"tcpSocket": {"host": host, "port": 80}})
    assert answer == ProbeAnswer(ProbeResult.FAILURE, f"dial tcp: lookup {host}: no such host")
    hook = {"httpGet": {"host": host, "port": 80, "path": "/"}}
    assert (await a_target().run_hook(hook)).startswith("Get ")


async def test_what_nobody_foresaw_says_nothing_of_the_container(caplog: pytest.LogCaptureFixture) -> None:
    command = {"exec": {"command": ["true"]}}
    assert await probed(command) == ProbeAnswer(ProbeResult.UNKNOWN, "ValueError: embedded null byte")
    assert await a_target().run_hook(command) == "ValueError: embedded null byte"
    assert "exec probe of container main" in caplog.text
    assert "exec hook of container main" in caplog.text
