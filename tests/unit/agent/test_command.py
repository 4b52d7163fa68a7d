import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gpuyard.agent.marks_file import read_marks
from gpuyard.gpus.cdi import SPEC_FILE

Agent = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    """Starts agents, and ends those that the test leaves running."""
    started: list[asyncio.subprocess.Process] = []

    async def start(*arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gpuyard.agent", "--plugins-dir", str(tmp_path), *arguments),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(process: asyncio.subprocess.Process, text: str) -> str:
    """Waits for a line with `text` on standard error."""
    assert process.stderr is not None
    while line := (await asyncio.wait_for(process.stderr.readline(), 60)).decode():
        if text in line:
            return line
    raise AssertionError(f"ended without saying {text!r}")


async def test_ends_on_sigterm(agent: Agent) -> None:
    process = await agent("--simulate", "H100:8")
    await said(process, "serving 8 nvidia.com/gpu (simulated)")
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0
    assert process.stderr is not None
    assert await process.stderr.read() == b""


async def test_a_sigterm_while_it_is_being_loaded_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process of a container has no default for it. Of an agent that was killed a spec is left."""
    began, go_on = tmp_path / "began", tmp_path / "go-on"
    os.mkfifo(began)
    os.mkfifo(go_on)
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / SPEC_FILE).touch()
    (tmp_path / "modules").mkdir()
    # In the place of what is loaded last.
    (tmp_path / "modules" / "grpc.py").write_text(
        f"open({str(began)!r}, 'w').close()\nopen({str(go_on)!r}).close()\n"
        f"import importlib, sys\nsys.path.remove({str(tmp_path / 'modules')!r})\ndel sys.modules['grpc']\n"
        "sys.modules['grpc'] = importlib.import_module('grpc')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gpuyard.agent", "--plugins-dir", str(tmp_path), "--simulate=H100:8"),
        *("--cdi-dir", str(tmp_path / "cdi"), "--remove-cdi-on-exit"),
    )
    try:
        await asyncio.to_thread(began.read_bytes)
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(go_on.write_bytes, b"")
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert list((tmp_path / "cdi").iterdir()) == []


async def test_ends_with_standard_input(agent: Agent) -> None:
    process = await agent("--simulate", "H100:8", "--exit-with-stdin")
    await said(process, "serving")
    assert process.stdin is not None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_of_two_on_one_node_the_second_serves_once_the_first_is_gone(
    agent: Agent, tmp_path: Path
) -> None:
    cdi = tmp_path / "cdi" / SPEC_FILE
    first = await agent("--simulate=H100:4", "--owner=one/agent", f"--cdi-dir={cdi.parent}")
    await said(first, "serving")
    spec = cdi.read_bytes()
    second = await agent(
        *("--simulate=H100:8", "--owner=two/agent", f"--cdi-dir={cdi.parent}", "--remove-cdi-on-exit"),
        # Marks that it can't remove.
        f"--marks-file={cdi.parent}",
    )
    assert f"one/agent on {os.uname().nodename} (pid {first.pid})" in await said(second, "waits")
    # One that waits takes nothing with it.
    second.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(second.wait(), 60) == 0
    third = await agent("--simulate=H100:8", "--owner=two/agent", f"--cdi-dir={cdi.parent}")
    await said(third, "waits")
    assert cdi.read_bytes() == spec
    first.kill()
    await said(third, "serving 8")


async def test_without_gpus_it_stays_and_says_so(agent: Agent, tmp_path: Path) -> None:
    process = await agent("--driver-root", str(tmp_path))
    line = await said(process, "no GPUs to serve")
    assert str(tmp_path) in line
    assert process.returncode is None
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_says_what_to_write_on_the_node_before_it_serves(agent: Agent, tmp_path: Path) -> None:
    file, health = tmp_path / "marks.json", tmp_path / "health.json"
    health.write_text('{"unhealthy": {"2": "XID 79"}}')
    process = await agent("--simulate=H100:4", f"--marks-file={file}", f"--simulated-health={health}")
    await said(process, "serving")
    marks = read_marks(file)
    assert marks is not None
    assert marks.labels["gpuyard.io/gpu-model"] == "H100"
    assert marks.labels["nvidia.com/gpu.count"] == "4"
    (fault,) = json.loads(marks.annotations["gpuyard.io/gpu-health"])
    assert (fault["index"], fault["reason"]) == (2, "XID 79")


async def test_without_gpus_it_says_why(agent: Agent, tmp_path: Path) -> None:
    file = tmp_path / "marks.json"
    process = await agent("--driver-root", str(tmp_path), f"--marks-file={file}")
    await said(process, "no GPUs to serve")
    marks = read_marks(file)
    assert marks is not None
    assert (marks.labels, str(tmp_path) in marks.annotations["gpuyard.io/no-gpus"]) == ({}, True)


async def test_says_what_images_can_do_on_the_node_whose_files_it_sees(agent: Agent, tmp_path: Path) -> None:
    file, host = tmp_path / "marks.json", tmp_path / "host"
    (host / "etc/nvidia-container-runtime").mkdir(parents=True)
    (host / "etc/nvidia-container-runtime/config.toml").write_text("")
    process = await agent("--simulate=H100:4", f"--marks-file={file}", f"--host-root={host}")
    await said(process, "serving")
    marks = read_marks(file)
    assert marks is not None
    assert marks.annotations["gpuyard.io/gpu-exposure"] == "variable=yes"


async def test_writes_the_cdi_spec_before_it_serves(agent: Agent, tmp_path: Path) -> None:
    process = await agent("--simulate", "H100:8", "--cdi-dir", str(tmp_path / "cdi"))
    await said(process, "serving")
    spec = json.loads((tmp_path / "cdi" / SPEC_FILE).read_text())
    assert len(spec["devices"]) == 8 + 8 + 1


def test_a_model_that_nobody_knows_is_misuse() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpuyard.agent", "--plugins-dir", "/tmp", "--simulate", "H10:8"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "did you mean H100" in done.stderr
    assert "Traceback" not in done.stderr
