"""Ctrl-C while a registry lets a command wait: 130, no word of error, nothing left behind."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.atomic_files import PREFIX
from tests.registry.fake import FakeRegistry, Fault, Response
from tests.registry.test_image_requests import base
from tests.unit.images.conftest import MakeWheel, Workshop, make_wheel, workshop
from tests.waiting import until_async

__all__ = ["base", "make_wheel", "workshop"]

_COMMAND = str(Path(sys.executable).with_name("gpuyard"))


async def _interrupted(fake: FakeRegistry, workshop: Workshop, *arguments: str) -> tuple[int, str]:
    """Starts a command, and interrupts it when it waits for the registry; its exit code, and what it said but
    for the lock: a line's end, so that the shell's next line doesn't follow `^C`."""
    environ = workshop.environ | {"XDG_CACHE_HOME": str(workshop.folder / "cache")}
    process = await asyncio.create_subprocess_exec(
        _COMMAND, *arguments, cwd=workshop.app, env=environ, stderr=asyncio.subprocess.PIPE
    )
    try:
        await until_async(lambda: fake.hanging or process.returncode is not None, "the command waits")
        assert process.returncode is None, (await process.communicate())[1]
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, "\n".join(
        line for line in err.decode().split("\n") if "lock written" not in line
    )


@pytest.mark.parametrize(
    ("pattern", "send"),
    [
        ("GET /v2/base/manifests/", None),
        ("GET /v2/base/blobs/", None),
        ("GET /v2/base/blobs/", 100),
        ("HEAD /v2/app/blobs/", None),
        ("POST /v2/app/blobs/uploads/", None),
        ("PUT /v2/app/blobs/uploads/", None),
        ("PUT /v2/app/manifests/", None),
    ],
)
async def test_a_build(
    base: str, fake: FakeRegistry, workshop: Workshop, make_wheel: MakeWheel, pattern: str, send: int | None
) -> None:
    make_wheel("demo", files={"demo/data.bin": bytes(range(256)) * 1000})
    required = workshop.require("demo")
    if send:  # in the middle of the layer
        pattern += next(digest for (_, digest), content in fake.blobs.items() if not content.startswith(b"{"))
    fake.faults = [Fault(pattern, times=99, send=send, hang=True)]
    options = ("--base", base, "-t", f"{fake.name}/app:v1", "--requirements", str(required))
    assert await _interrupted(fake, workshop, "build", *options) == (130, "\n")
    # What was begun is taken back where the registry knew of it, and only an empty session where it didn't.
    assert not any(fake.uploads.values())
    assert ("app", "v1") not in fake.manifests
    assert not [path for path in workshop.folder.rglob("*") if path.name.startswith(PREFIX)]


@pytest.mark.parametrize(
    "arguments", [("image", "show"), ("image", "show", "--read-layers"), ("image", "check", "--gpu", "H100")]
)
async def test_looking_at_an_image(
    base: str, fake: FakeRegistry, workshop: Workshop, arguments: tuple[str, ...]
) -> None:
    fake.faults = [Fault("GET /v2/base/blobs/", times=99, hang=True)]
    assert await _interrupted(fake, workshop, *arguments, base) == (130, "\n")


async def test_a_base_that_cannot_be_read_to_its_end_says_why(
    base: str, fake: FakeRegistry, workshop: Workshop
) -> None:
    layer = next(digest for (_, digest), content in fake.blobs.items() if not content.startswith(b"{"))
    fake.faults = [Fault(f"GET /v2/base/blobs/{layer}", send=100), Fault(layer, answer=Response(403))]
    with pytest.raises(errors.ImageUnauthorized, match="doesn't allow it"):
        await workshop.build(base=base)
