"""NVIDIA's programs for MPS, with the driver's libraries where a loader finds them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuyard.devices.nvml.driver_files import LIB64, find_driver_files

CONTROL = "nvidia-cuda-mps-control"
_SMI = "nvidia-smi"
_BIN = "/usr/bin"


@dataclass(frozen=True)
class MpsPrograms:
    """What runs a daemon.

    Attributes:
        control: nvidia-cuda-mps-control.
        smi: nvidia-smi, which sets a GPU's compute mode; None where there is none.
        environ: what they are run with. The control program starts the server, which it looks for in PATH.
    """

    control: Path
    smi: Path | None
    environ: Mapping[str, str]


def find_mps_programs(
    driver_root: Path, version: str, folder: Path, host_root: Path = Path("/")
) -> MpsPrograms | None:
    """The driver's; None where it has brought none.

    Under another root than this machine's own no loader looks for the driver's libraries, and a whole folder
    of another system's would bring its C library with them: they are linked to, alone, in a folder of ours.

    Args:
        driver_root: where the driver is installed, or the GPU operator's is below.
        version: of the driver.
        folder: to make links in, as `driver`.
        host_root: where the node's own file system is seen.
    """
    if driver_root == Path("/"):
        return _programs(Path(_BIN), {})
    links = {_BIN: folder / "driver/bin", LIB64: folder / "driver/lib"}
    shutil.rmtree(folder / "driver", ignore_errors=True)
    for where in links.values():
        where.mkdir(parents=True, exist_ok=True)
    for file in find_driver_files(driver_root, version, host_root):
        at = Path(file.container_path)
        if into := links.get(str(at.parent)):
            (into / at.name).symlink_to(host_root / file.host_path.lstrip("/"))
    return _programs(links[_BIN], {"LD_LIBRARY_PATH": str(links[LIB64])})


def _programs(folder: Path, environ: Mapping[str, str]) -> MpsPrograms | None:
    path = f"{folder}:/usr/bin:/bin"
    control, smi = (shutil.which(name, path=path) for name in (CONTROL, _SMI))
    return (
        MpsPrograms(Path(control), Path(smi) if smi else None, {"PATH": path, **environ}) if control else None
    )
