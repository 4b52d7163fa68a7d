import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gpuyard.cli.commands.install import check, command
from gpuyard.client.rest import RestApi
from gpuyard.tenancy.options import InstallOptions

IMAGE = "registry.example.com/gpuyard/agent:v1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--image"),
        (["--base=python:3.11"], "--image"),
        ([f"--image={IMAGE}", "-o", "yaml"], "--dry-run"),
        ([f"--image={IMAGE}", "--base=a", "--dry-run"], "builds nothing"),
        ([f"--image={IMAGE}", "--push=a"], "--base"),
        ([f"--image={IMAGE}", "--build-only"], "--base"),
        ([f"--image={IMAGE}", "--driver-access=root"], "runtimeclass"),
    ],
)
def test_options_that_do_not_go_together(words: Sequence[str], message: str) -> None:
    done = CliRunner().invoke(command, words)
    assert (done.exit_code, message in done.output) == (2, True), done.output


def test_a_dry_run_needs_no_cluster() -> None:
    done = CliRunner().invoke(command, [f"--image={IMAGE}", "--simulate=H100:8", "--dry-run", "-o", "json"])
    assert done.exit_code == 0
    assert json.loads(done.output)["items"][-1]["kind"] == "DaemonSet"


@pytest.mark.parametrize(("minor", "said"), [("29", "take its labeller's token"), ("30", "")])
async def test_on_an_old_cluster_it_says_what_a_labellers_token_can_do(
    minor: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        version = {"major": "1", "minor": minor}
        there: dict[str, Any] = version if path == "/version" else {"items": []}
        body = json.dumps(there).encode()
        code = 404 if "/namespaces/" in path else 200
        writer.write(
            f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        )
        writer.write(body)
        await writer.drain()
        writer.close()

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        socket = Path(folder, "api")
        async with await asyncio.start_unix_server(answer, socket), RestApi(unix_socket=socket) as api:
            options = await check(api, InstallOptions(IMAGE), force=False)
    assert options.confine is (minor == "30")
    printed = capsys.readouterr().err
    assert said in printed if said else printed == ""
