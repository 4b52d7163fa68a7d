"""`gpuyard build` by somebody who has no rights on the machine: the image is the same, to the byte."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.registry.fake import FakeRegistry
from tests.registry.test_image_requests import base
from tests.unit.images.conftest import MakeWheel, Workshop, debian_files, make_wheel, workshop

__all__ = ["base", "make_wheel", "workshop"]

#: Root becomes a user without capabilities in a namespace of its own; whoever isn't root needs none.
_AS_USER = ("unshare", "--user", "--map-user=1000", "--map-group=1000") if os.getuid() == 0 else ()


async def _run(workshop: Workshop, *words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *_AS_USER, *words, cwd=workshop.app, env=workshop.environ, stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode().strip(), err.decode()


async def test_it_takes_no_rights(
    base: str, fake: FakeRegistry, workshop: Workshop, make_wheel: MakeWheel, tmp_path: Path
) -> None:
    if _AS_USER and (shutil.which("unshare") is None or (await _run(workshop, "true"))[0]):
        pytest.skip("this machine has no user namespaces")
    assert (await _run(workshop, "id", "-u"))[1] != "0"
    make_wheel("demo", entry_points="[console_scripts]\ndemo = demo:main\n")
    (workshop.app / "requirements.txt").write_text("demo\n")
    stage = f"oci:{tmp_path / 'base'}:stage"
    await workshop.make_base(debian_files() | {"opt/tool": "x"}, name="stage")
    command = str(Path(sys.executable).with_name("gpuyard"))
    name = f"{fake.name}/app:v1"
    options = ("--base", base, "--requirements", "requirements.txt", "--copy-from", f"{stage}:/opt/tool")
    code, built, err = await _run(workshop, command, "build", *options, "-t", name)
    assert code == 0, err
    assert f"{fake.name}/app@sha256:" in built
    mine = await asyncio.create_subprocess_exec(
        command, "build", *options, "-t", name, cwd=workshop.app, env=workshop.environ, stdout=-1
    )
    out, _ = await mine.communicate()
    assert out.decode().strip() == built
