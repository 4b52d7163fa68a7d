from __future__ import annotations

from typing import Any


async def test_a_pod_that_succeeds(host: Any) -> None:
    async with host.running():
        await host.create("a", "sh", "-c", "echo hello")
        pod = await host.finished("a")
        assert await host.log("a") == "hello\n"
    status = pod["status"]
    assert status["phase"] == "Succeeded"
    print(status)
