"""kubectl exec, cp, attach and port-forward against a yard's API with a kubelet behind it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from gpuyard.kube.wellknown import RUNTIME_CLASS_PROCESS
from tests.terminal import Terminal
from tests.unit.local.http.streams.conftest import ANSWERS, Served, folder, host, runtime, served
from tests.unit.local.kubelet.conftest import NODE

__all__ = ["folder", "host", "runtime", "served"]

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")


def _environment(served: Served) -> dict[str, str]:
    paths = served.host.paths
    return {"PATH": os.environ["PATH"], "HOME": str(paths.data_dir), "KUBECONFIG": str(paths.kubeconfig)}


async def _kubectl(served: Served, *words: str, stdin: bytes = b"") -> tuple[int | None, bytes, bytes]:
    """Exit code, output and errors."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "kubectl", *words, env=_environment(served), stdin=pipe, stdout=pipe, stderr=pipe
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(stdin)
    return process.returncode, out, err


async def test_exec_has_input_output_errors_and_an_exit_code(served: Served) -> None:
    async with served.running():
        await served.up()
        script = "cat; echo no >&2; exit 7"
        code, out, err = await _kubectl(
            served, "exec", "-i", "a", "--", "sh", "-c", script, stdin=b"one\ntwo"
        )
        assert (code, out) == (7, b"one\ntwo")
        assert err.startswith(b"no\n")
        missing = await _kubectl(served, "exec", "a", "--", "no-such-program")
        assert missing[0] == 1
        assert b'exec: "no-such-program": executable file not found in $PATH' in missing[2]


async def test_exec_in_a_terminal(served: Served) -> None:
    async with served.running():
        await served.up()
        words = ("kubectl", "exec", "-it", "a", "--", "sh")
        assert await asyncio.to_thread(_type, words, served) == 9


def _type(words: Sequence[str], served: Served) -> int:
    with Terminal(words, _environment(served), served.host.paths.data_dir) as terminal:
        terminal.type("until [ \"$(stty size)\" = '24 80' ]; do sleep 0.1; done; tty; echo rea''dy\n")
        terminal.wait_for("ready")
        # A sandbox has the terminal of its own command as its console.
        assert "/dev/pts/" in terminal.shown or "/dev/console" in terminal.shown
        terminal.type("sh -c 'echo wa''its; sleep 600'\n")
        terminal.wait_for("waits")
        terminal.type("\3echo code $?\n")
        terminal.wait_for("code 130")
        terminal.type("exit 9\n")
        return terminal.finish()


async def test_cp_both_ways(served: Served, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(os.urandom(3_000_000))
    async with served.running():
        await served.up("a", main={"workingDir": str(served.host.paths.data_dir)})
        assert (await _kubectl(served, "cp", str(tmp_path / "sent"), "a:copied"))[0] == 0
        assert (await _kubectl(served, "cp", "a:copied", str(tmp_path / "got")))[0] == 0
    assert (tmp_path / "got").read_bytes() == (tmp_path / "sent").read_bytes()


async def test_attach(served: Served, tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with served.running():
        await served.up("a", "sh", "-c", 'echo up; until [ -e "$0" ]; do echo tick; sleep 0.1; done', str(go))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            "kubectl", "attach", "a", env=_environment(served), stdout=pipe, stderr=pipe
        )
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"tick\n"
            go.touch()
            await process.communicate()
    assert process.returncode == 0


async def test_attach_gives_input_to_its_end(served: Served) -> None:
    async with served.running():
        script = "echo up; cat; echo end"
        await served.up("a", "sh", "-c", script, main={"stdin": True, "stdinOnce": True})
        code, out, _ = await _kubectl(served, "attach", "-i", "a", stdin=b"one\ntwo\n")
        assert (code, out) == (0, b"one\ntwo\nend\n")


async def test_run_in_a_terminal(served: Served) -> None:
    async with served.running():
        spec = {"runtimeClassName": RUNTIME_CLASS_PROCESS, "nodeName": NODE}
        overrides = json.dumps({"spec": spec})
        words = ["kubectl", "run", "-it", "a", "--image=gpuyard.io/host-process", "--restart=Never"]
        words += [f"--overrides={overrides}", "--command", "--", "sh", "-i"]
        assert await asyncio.to_thread(_type, words, served) == 9


async def test_port_forward(served: Served) -> None:
    async with served.running():
        port = await served.serves(ANSWERS)
        words = ("kubectl", "port-forward", "pod/a", f":{port}", "--address=127.0.0.1")
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*words, env=_environment(served), stdout=pipe)
        assert process.stdout is not None
        try:
            async with asyncio.timeout(60):
                said = (await process.stdout.readline()).decode()
                local = said.removeprefix("Forwarding from 127.0.0.1:").split(" ")[0]
                for line in (b"one\n", b"two\n"):
                    reader, writer = await asyncio.open_connection("127.0.0.1", int(local))
                    writer.write(line)
                    writer.write_eof()
                    assert await reader.read() == line.upper()
                    writer.close()
        finally:
            process.terminate()
            await process.wait()
