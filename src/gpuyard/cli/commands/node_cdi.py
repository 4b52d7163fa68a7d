"""`gpuyard node cdi`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

_NAME_IT = (
    "install the driver, or name the folder that it is installed under with --driver-root; of simulated GPUs "
    "there is no spec"
)


@click.command("cdi", epilog="\b\nExample:\n  gpuyard node cdi --driver-root /run/nvidia/driver\n")
@click.option(
    "--driver-root",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    default=Path("/"),
    help="Where the NVIDIA driver is installed (default: /).",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["yaml", "json"]),
    default="yaml",
    help="How it is printed (default: yaml).",
)
def command(driver_root: Path, output: str) -> None:
    """Print the CDI spec of this machine's GPUs and their driver.

    It is what an agent would write here: device nodes, and what of the driver it brings into containers.
    Nothing is written. It needs no yard, and no GPU may be simulated.
    """
    from gpuyard import errors
    from gpuyard.agent.cdi import cdi_spec
    from gpuyard.cli.output.results import print_json
    from gpuyard.devices.inventory import Absence
    from gpuyard.devices.nvml.driver_files import find_driver_files
    from gpuyard.devices.nvml.library import NoDriver, Nvml
    from gpuyard.workloads.yaml_text import to_yaml

    try:
        nvml = Nvml.open(driver_root)
    except NoDriver as error:
        if error.absence is not Absence.NO_LIBRARY:
            raise
        raise errors.DeviceError(error.message, remedy=_NAME_IT) from error
    with closing(nvml):
        inventory = nvml.inventory()
    if not inventory.devices:
        raise errors.DeviceError(inventory.detail, remedy="see whether nvidia-smi lists the GPUs")
    driver = find_driver_files(driver_root, inventory.driver_version)
    if not driver:
        click.echo(
            f"no library of the driver {inventory.driver_version} is found under {driver_root}: containers "
            "would get device nodes alone",
            err=True,
        )
    spec = cdi_spec(inventory, driver)
    if output == "json":
        print_json(spec)
    else:
        click.echo(to_yaml([spec]), nl=False)
