import subprocess
import sys

import pytest

_PROGRAM = """
import sys
from gpuyard.agent.unneeded import leave_out
leave_out()
from gpuyard.agent import command
"""


def ran(program: str) -> str:
    """What a program prints that begins as the agent does."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM + program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "module", ["google.protobuf.internal.decoder", "google.protobuf.text_format", "_ssl", "pydantic"]
)
def test_what_nobody_needs_is_not_loaded(module: str) -> None:
    assert ran(f"print({module!r} in sys.modules)") == "False\n"


def test_messages_are_whole_all_the_same() -> None:
    said = ran(
        "from gpuyard._proto import device_plugin_pb2 as pb\n"
        "one = pb.ContainerAllocateResponse(envs={'a': 'b'})\n"
        "sent = pb.AllocateResponse(container_responses=[one])\n"
        "got = pb.AllocateResponse.FromString(sent.SerializeToString())\n"
        "print(got == sent, dict(got.container_responses[0].envs))\n"
    )
    assert said == "True {'a': 'b'}\n"


def test_whoever_wants_more_of_typing_extensions_gets_it() -> None:
    said = ran(
        "import typing_extensions\n"
        "from typing_extensions import TypeIs, override\n"
        "print(bool(TypeIs), override(len) is len)\n"
    )
    assert said == "True True\n"


def test_grpc_knows_what_it_is_told_to_do_without() -> None:
    serving = (
        "import asyncio, grpc.aio\n"
        "async def serve():\n"
        "    server = grpc.aio.server()\n"
        "    server.add_insecure_port('127.0.0.1:0')\n"
        "    await server.start()\n"
        "    await server.stop(None)\n"
        "asyncio.run(serve())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM + serving], capture_output=True, text=True, check=True
    )
    assert "experiment" not in done.stderr.lower()
