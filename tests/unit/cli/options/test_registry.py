from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuyard.cli.options.registry import registry_environ
from gpuyard.images.registry.settings import ENV_CA_FILE, ENV_PLAIN_HTTP

_PROGRAM = """
import sys
from gpuyard.cli.main import cli
cli.main(["run", "--dry-run", "--", "/bin/true"], standalone_mode=False)
packages = ("gpuyard.images", "gpuyard.building", "gpuyard.compatibility")
print("imported:", *sorted(name for name in sys.modules if name.startswith(packages)), file=sys.stderr)
"""


def test_options_are_laid_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_PLAIN_HTTP, "a:1")
    monkeypatch.delenv(ENV_CA_FILE, raising=False)
    environ = registry_environ(("b:2",), Path("ca.pem"))
    assert (environ[ENV_PLAIN_HTTP], environ[ENV_CA_FILE]) == ("a:1 b:2", "ca.pem")
    assert registry_environ((), None) == dict(os.environ)


def test_a_run_without_an_image_imports_nothing_about_images(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env=os.environ | {"GPUYARD_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "imported:"
