import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "stubs/nvml/nvml_stub.c"


@pytest.fixture(scope="session")
def nvml_stub(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds the stub NVML and answers with a driver root that has it and the device nodes of four GPUs."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler, and the NVML tests build a stub library")
    built: dict[tuple[str, ...], Path] = {}

    def build(*flags: str) -> Path:
        if flags not in built:
            root = tmp_path_factory.mktemp("driver")
            library = root / "usr/lib64/libnvidia-ml.so.1"
            library.parent.mkdir(parents=True)
            options = ["-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", *flags]
            subprocess.run([compiler, *options, "-o", str(library), str(SOURCE)], check=True)
            (root / "dev").mkdir()
            for name in ("nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1", "nvidia2", "nvidia3"):
                (root / "dev" / name).touch()
            built[flags] = root
        return built[flags]

    return build
