"""`python -m gpuyard.local.daemon`: the yard's process, and what it tells the command that starts it."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import resource
import signal
import sys
from typing import Any

from gpuyard import errors
from gpuyard.local.daemon.log import log_to_standard_error
from gpuyard.local.daemon.yard import Periods, Yard
from gpuyard.local.paths import find_paths
from gpuyard.local.settings import Choices

log = logging.getLogger("gpuyard.daemon")

_MAX_OPEN_FILES = 65_536


class StartReport:
    """The one line that the starting command waits for, on a pipe that it gave us."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def ready(self) -> None:
        """The yard answers."""
        self._write({"ready": True})

    def failed(self, error: errors.GpuyardError) -> None:
        """It doesn't, and why."""
        self._write({"error": error.message, "remedy": error.remedy, "exit_code": error.exit_code})

    def _write(self, report: dict[str, Any]) -> None:
        if self._descriptor < 0:
            return
        # The command may have been interrupted: nobody reads then, and that is fine.
        try:
            os.write(self._descriptor, json.dumps(report).encode() + b"\n")
            os.close(self._descriptor)
        except BrokenPipeError:
            pass
        self._descriptor = -1


def main() -> int:
    """Runs the yard until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="gpuyard.local.daemon", description=__doc__)
    parser.add_argument("--simulate", help="GPUs to simulate, such as H100:8; kept")
    parser.add_argument("--port", type=int, help="of the HTTPS API; kept")
    parser.add_argument("--mig-strategy", help="how parts of GPUs are offered; kept")
    parser.add_argument("--gpu-config", help="the agent's configuration; kept")
    parser.add_argument(
        "--share-with-others",
        type="True".__eq__,
        help="True: runs get GPUs that others' processes are on; kept",
    )
    parser.add_argument("--gpu-backend", help="a module for another vendor's GPUs; kept")
    parser.add_argument("--ready-fd", type=int, default=-1, help="where to say that the yard is ready")
    periods = Periods()
    parser.add_argument(
        "--heartbeat-s", type=float, default=periods.heartbeat_s, help="of the node; not kept"
    )
    parser.add_argument("--node-grace-s", type=float, default=periods.node_grace_s, help="a silent node's")
    options = parser.parse_args()
    _allow_many_files()
    log_to_standard_error()
    report = StartReport(options.ready_fd)
    try:
        asyncio.run(_run(options, report))
    except errors.GpuyardError as error:
        log.error("%s; %s", error.message, error.remedy)
        report.failed(error)
        return error.exit_code
    except Exception as error:
        log_file = find_paths(os.environ).daemon_log
        failure = errors.YardError(f"the yard failed: {_in_one_line(error)}", remedy=f"see {log_file}")
        log.critical(failure.message, exc_info=True)
        report.failed(failure)
        return failure.exit_code
    return 0


async def _run(options: argparse.Namespace, report: StartReport) -> None:
    paths = find_paths(os.environ)
    paths.make_folders()
    yard = Yard(
        paths,
        choices=Choices(
            options.simulate,
            options.port,
            options.mig_strategy,
            options.gpu_config,
            options.share_with_others,
            options.gpu_backend,
        ),
        on_ready=report.ready,
        periods=Periods(options.heartbeat_s, options.node_grace_s),
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, yard.stop)
    await yard.run()


def _allow_many_files() -> None:
    """Raises the usual soft limit of 1,024: each pod, watch and followed log holds descriptors.

    Runs inherit it, as containers do; it is bounded, since some programs close all that they might have.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _in_one_line(error: Exception) -> str:
    """What went wrong at the bottom of it: parts that run in groups wrap what ended them."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return " ".join(f"{type(error).__name__}: {error}".split())


if __name__ == "__main__":
    sys.exit(main())
