"""The agent's command line."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from gpuyard import errors
from gpuyard.agent.cdi_file import CdiFile
from gpuyard.agent.options.device_lists import CDI_LISTS, DeviceList, Handover, suitable_lists
from gpuyard.agent.plugin.config import AgentConfig, PreStart, parse_config
from gpuyard.agent.plugin.lease import Lease
from gpuyard.agent.plugin.mps import SHARED_MEMORY, MpsDaemons
from gpuyard.agent.plugin.mps_programs import find_mps_programs
from gpuyard.agent.plugin.scrubbing import MemoryScrubber
from gpuyard.agent.plugin.sockets import OwnSockets
from gpuyard.agent.served import MigStrategy
from gpuyard.agent.service import run_agent
from gpuyard.agent.stdin import on_stdin_closed
from gpuyard.devices.backend import GpuBackend, open_backend
from gpuyard.devices.inventory import Inventory
from gpuyard.devices.nvml.driver_files import driver_root_in, find_driver_files, find_libraries
from gpuyard.devices.occupants import OccupantFinder, OwnYard, with_occupants
from gpuyard.devices.processes import ProcessTable
from gpuyard.devices.simulated.simulation import parse_simulation
from gpuyard.gpus.exposure import Exposure

#: Told to end by these. They wait from the very first line on until there is somebody to take them: see
#: `__main__`.
_ENDINGS = (signal.SIGTERM, signal.SIGINT)


async def _run(options: argparse.Namespace) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in _ENDINGS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)
    if options.exit_with_stdin:
        on_stdin_closed(task.cancel)
    host_root = options.host_root or Path("/")
    config = _config(options).on_node(options.node or "")
    backend = open_backend(
        options.simulate,
        seed=options.node or "node",
        control=options.simulated_health,
        driver_root=options.driver_root,
        host_root=host_root,
        module=options.gpu_backend,
    )
    inventories = _with_occupants(backend, options)
    sockets = OwnSockets(options.plugins_dir)
    cdi = CdiFile(options.cdi_dir, lambda: datetime.now(UTC)) if options.cdi_dir else None
    if options.ready_file:
        options.ready_file.unlink(missing_ok=True)
    work = partial(
        run_agent,
        inventories,
        options.plugins_dir,
        sockets,
        serving=replace(config.serving, split_whole=not options.no_split_gpus),
        handover=_handover(config, options),
        cdi=cdi,
        marks_file=options.marks_file,
        find_exposure=_exposure_in(options.host_root),
        find_driver=partial(find_driver_files, options.driver_root, host_root=host_root)
        if options.cdi_driver
        else None,
        make_daemons=_mps_daemons(options),
        scrub=_scrubber(options.driver_root).scrub if config.pre_start is PreStart.SCRUB else None,
        on_ready=options.ready_file.touch if options.ready_file else lambda: None,
    )
    # Of the yard's agents an earlier one may be about to end.
    owner = options.owner or (f"yard {options.yard}" if options.yard else "")
    lease = Lease(options.plugins_dir, owner, lambda: datetime.now(UTC))
    try:
        async with lease.held(partial(_forget_marks, options.marks_file)):
            try:
                await work()
            finally:
                # The spec of an agent that has taken over is its own.
                if cdi and options.remove_cdi_on_exit and not sockets.is_survived():
                    cdi.remove()
    except ExceptionGroup as group:
        raise _first_of(group) from None
    finally:
        await inventories.aclose()


def _forget_marks(marks_file: Path | None) -> None:
    """Labeller and exporter would go by what this process wrote before it was started again."""
    if marks_file is not None:
        try:
            marks_file.unlink(missing_ok=True)
        except OSError as error:
            logging.getLogger(__name__).warning("can't remove %s: %s", marks_file, error.strerror)


def _first_of(group: ExceptionGroup[Exception]) -> Exception:
    """What ended the agent, for people; the group where that is a mistake of its own."""
    first: Exception = group
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, errors.GpuyardError) else group


def _mps_daemons(options: argparse.Namespace) -> Callable[[asyncio.TaskGroup], MpsDaemons]:
    folder: Path | None = options.mps_dir
    if folder is None:
        return MpsDaemons
    host_root = options.host_root or Path("/")
    find = partial(find_mps_programs, options.driver_root, folder=folder, host_root=host_root)
    return partial(MpsDaemons, folder=folder, find_programs=find, shared_memory=options.mps_shm)


def _config(options: argparse.Namespace) -> AgentConfig:
    """What the file says; the options where it says nothing.

    Raises:
        UsageError: the file isn't one.
    """
    raw: object = {"version": "v1"}
    if options.config:
        try:
            raw = json.loads(options.config)
        except (ValueError, RecursionError) as error:
            raise errors.UsageError(
                f"--config isn't JSON: {error}", remedy="gpuyard up and install write it from YAML"
            ) from error
    if isinstance(raw, dict):
        flags = {"migStrategy": options.mig_strategy, **(raw.get("flags") or {})}
        lists = {"deviceListStrategy": options.device_list_strategy} if options.device_list_strategy else {}
        flags["plugin"] = {**lists, **(flags.get("plugin") or {})}
        raw = {**raw, "flags": flags}
    return parse_config(raw)


def _handover(config: AgentConfig, options: argparse.Namespace) -> Handover:
    lists = config.device_lists
    if lists is None:
        host_root: Path | None = options.host_root
        lists = suitable_lists(
            has_cdi=options.cdi_dir is not None,
            mounts_name_devices=host_root is not None and _mounts_name_devices(host_root),
        )
    elif lists & CDI_LISTS and not options.cdi_dir:
        raise errors.UsageError(
            f"{', '.join(sorted(lists & CDI_LISTS))} needs a CDI spec, and none is written",
            remedy="name the folder for it with --cdi-dir",
        )
    return Handover(lists, config.by_index, checks_starts=config.pre_start is not PreStart.NONE)


def _scrubber(driver_root: Path) -> MemoryScrubber:
    def find_libcuda() -> Path | None:
        if driver_root == Path("/"):
            return Path("libcuda.so.1")  # By the loader's rules.
        return next(iter(find_libraries(driver_root_in(driver_root), "libcuda.so.1")), None)

    return MemoryScrubber(find_libcuda)


def _mounts_name_devices(host_root: Path) -> bool:
    # Others start without reading it.
    from gpuyard.agent.container_runtimes import mounts_name_devices

    return mounts_name_devices(host_root)


def _with_occupants(backend: GpuBackend, options: argparse.Namespace) -> AsyncGenerator[Inventory, None]:
    table, yard = ProcessTable((options.host_root or Path("/")) / "proc"), None
    if options.yard is not None:
        yard = OwnYard(options.locks, os.geteuid(), options.yard, options.share_with_others)
    elif not table.sees_pids and not options.simulate:
        return backend.inventories()  # In a pod that sees no other processes there is nothing to tell.
    return with_occupants(backend.inventories(), backend.processes, OccupantFinder(yard, table))


def _exposure_in(host_root: Path | None) -> Callable[[], Exposure]:
    if host_root is None:
        return Exposure
    # Others start without reading it.
    from gpuyard.agent.container_runtimes import find_exposure

    return partial(find_exposure, host_root)


def _add_yard_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--node", help="its name: its simulated GPUs are its own")
    parser.add_argument("--exit-with-stdin", action="store_true", help="exit when standard input ends")
    parser.add_argument("--yard", metavar="ID", help="it is of this yard, see devices.gpu_locks.yard_id")
    parser.add_argument("--locks", type=Path, metavar="DIR", help="where that yard locks GPUs")
    parser.add_argument(
        "--share-with-others", action="store_true", help="also give out GPUs that foreign processes are on"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpuyard.agent", description="Serves the GPUs of one node to its kubelet."
    )
    parser.add_argument(
        "--plugins-dir", type=Path, required=True, help="folder of the kubelet's kubelet.sock"
    )
    parser.add_argument("--simulate", metavar="MODEL:N", help="serve simulated GPUs, for example H100:8")
    parser.add_argument(
        "--simulated-health", type=Path, metavar="FILE", help='JSON: {"unhealthy": {"GPU-…": "XID 79"}}'
    )
    parser.add_argument(
        "--mig-strategy",
        choices=[*MigStrategy],
        default=os.environ.get("MIG_STRATEGY", MigStrategy.NONE),
        help="how parts of GPUs are offered: not at all, as GPUs, or each profile as a resource",
    )
    parser.add_argument(
        "--device-list-strategy",
        default=os.environ.get("DEVICE_LIST_STRATEGY"),
        help=f"how containers are told their devices: auto, {', '.join(DeviceList)}; several with commas",
    )
    parser.add_argument(
        "--config",
        metavar="JSON",
        help="all of these and sharing, as docs/how-to/share-and-split-gpus.md has it",
    )
    parser.add_argument(
        "--no-split-gpus",
        action="store_true",
        help="don't offer a split GPU whole when its parts aren't offered, as NVIDIA's device plugin does",
    )
    parser.add_argument("--driver-root", type=Path, default=Path("/"), help="where the driver is installed")
    parser.add_argument(
        "--gpu-backend", metavar="MODULE", help="serve another vendor's GPUs, too, by this Python module"
    )
    parser.add_argument("--cdi-dir", type=Path, help="write a CDI spec of the GPUs into this folder")
    parser.add_argument(
        "--cdi-driver",
        action="store_true",
        help="bring the driver's files by that spec: the driver root's are the node's own",
    )
    parser.add_argument("--remove-cdi-on-exit", action="store_true", help="take that spec away at the end")
    parser.add_argument("--marks-file", type=Path, help="write here what the node is marked with")
    parser.add_argument("--host-root", type=Path, help="where the node's own files are, if they can be seen")
    parser.add_argument(
        "--mps-dir", type=Path, help="run MPS daemons, with their pipes and logs in this folder"
    )
    parser.add_argument(
        "--mps-shm", type=Path, default=SHARED_MEMORY, help="the node's folder that is /dev/shm here, for MPS"
    )
    parser.add_argument("--ready-file", type=Path, help="make this file once the kubelet knows the GPUs")
    parser.add_argument(
        "--owner", default="", help="of which agents may serve beside each other, as in a rollout; else none"
    )
    _add_yard_options(parser)
    return parser


def main() -> int:
    """Runs until SIGTERM, SIGINT or, with --exit-with-stdin, the end of standard input."""
    options = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s agent: %(message)s")
    try:
        options.simulate = parse_simulation(options.simulate) if options.simulate else None
        asyncio.run(_run(options))
    except asyncio.CancelledError:
        return 0
    except errors.GpuyardError as error:
        print(f"gpuyard.agent: {error.message}; {error.remedy}", file=sys.stderr)
        return error.exit_code
    return 0
