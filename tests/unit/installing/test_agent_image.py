"""What goes into the agent's image is all that the programs in it import of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gpuyard.installing.agent_image import agent_build

#: Each module by itself, also those that are imported only when they are needed.
_IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import gpuyard
for module in pkgutil.walk_packages(gpuyard.__path__, "gpuyard."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(gpuyard.__file__)
"""


def test_every_module_of_the_image_finds_what_it_imports(tmp_path: Path) -> None:
    with agent_build("registry/base", "registry/agent:1", None) as request:
        # -S: only `site` would put this gpuyard on the path, and the libraries, which the image has.
        libraries = [entry for entry in sys.path if entry.endswith("site-packages")]
        done = subprocess.run(
            [sys.executable, "-S", "-c", _IMPORT_ALL, str(request.root)],
            env={"PYTHONPATH": ":".join(libraries)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.strip() == str(request.root / "gpuyard/__init__.py")
