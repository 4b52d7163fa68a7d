"""Runs uv, which comes with gpuyard."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuyard.images.subprocesses import outputs


@dataclass(frozen=True)
class UvDone:
    """How it ended, and what it said."""

    code: int
    out: str
    err: str


async def run_uv(arguments: Sequence[str], *, folder: Path, environ: Mapping[str, str]) -> UvDone:
    """Runs it to its end; killed when the caller is cancelled.

    Args:
        arguments: subcommand and options.
        folder: where it looks for its configuration, and above it.
        environ: its environment, except for VIRTUAL_ENV: images have nothing to do with what is active here.
    """
    import uv

    process = await asyncio.create_subprocess_exec(
        uv.find_uv_bin(), *arguments, "--no-progress", "--color", "never",
        cwd=folder,
        env={name: value for name, value in environ.items() if name != "VIRTUAL_ENV"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await outputs(process)
    assert process.returncode is not None
    return UvDone(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace").strip())
