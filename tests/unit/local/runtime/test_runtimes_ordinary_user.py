"""The whole suite may run as an ordinary user; when it runs as root, this drops to one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import gpuyard

_NOBODY = 65534
_PROGRAM = """
import asyncio, os, sys
from datetime import UTC, datetime
from pathlib import Path
from gpuyard.local.runtime.runtimes import Runtimes
from gpuyard.local.runtime.values import ContainerSpec, HostDevice, Limits

async def main():
    folder = Path(sys.argv[1])
    runtime = await Runtimes.open("gpuyard-test-user", os.environ["PATH"], lambda: datetime.now(UTC))
    print(runtime.process.isolation.level, runtime.process.isolation.warning, runtime.cgroups.enforced)
    script = "id -u; ls /dev | grep nvidia; echo in >/tmp/file; trap 'exit 6' TERM; touch up; "
    script += "while :; do sleep 0.01; done"
    devices = [HostDevice("/dev/null", "/dev/nvidia0")]
    spec = ContainerSpec("test-user", ["sh", "-c", script], {"PATH": "/usr/bin:/bin"}, str(folder),
                         devices=devices, shm_bytes=1 << 20, limits=Limits(1000, 1 << 30))
    container = await runtime.start(folder / "s", spec)
    while not (folder / "up").exists():
        await asyncio.sleep(0.005)
    await container.stop(60)
    print((await container.wait()).code, container.log_path.read_text().split())

asyncio.run(main())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="already an ordinary user")
def test_as_an_ordinary_user(folder: Path) -> None:
    if shutil.which("setpriv") is None or shutil.which("bwrap") is None:
        pytest.skip("needs setpriv and bwrap")
    # The package itself and its interpreter may lie where only root can look.
    source = folder / "src"
    shutil.copytree(
        Path(gpuyard.__file__).parent, source / "gpuyard", ignore=shutil.ignore_patterns("__pycache__")
    )
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir()
    os.chown(home, _NOBODY, _NOBODY)
    drop = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    done = subprocess.run(
        [*drop, "/usr/bin/python3", "-B", "-c", _PROGRAM, str(home)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(source), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "Permission denied" in done.stdout or done.stdout.startswith("none"):
        pytest.skip(f"this host lets no user make namespaces: {done.stdout}")
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["bubblewrap  none", f"6 ['{_NOBODY}', 'nvidia0']"]
