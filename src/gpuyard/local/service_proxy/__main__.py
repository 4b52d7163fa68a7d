"""`python -m gpuyard.local.service_proxy`: the proxy of one Service, until it is gone or SIGTERM comes."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import resource
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from gpuyard.client.events import EventRecorder
from gpuyard.client.rest import RestApi
from gpuyard.local.daemon.log import log_to_standard_error
from gpuyard.local.proxy_process import hold
from gpuyard.local.service_proxy.limits import ProxyLimits
from gpuyard.local.service_proxy.process import ServiceProxy

log = logging.getLogger("gpuyard.service_proxy")

_MAX_OPEN_FILES = 65_536


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(prog="gpuyard.local.service_proxy", description=__doc__)
    parser.add_argument("--api-socket", type=Path, required=True, help="the yard's API")
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--service", required=True)
    parser.add_argument("--socket", type=Path, required=True, help="where its metrics are told")
    parser.add_argument("--lock", type=Path, required=True, help="the file that it holds while it lives")
    options = parser.parse_args()
    log_to_standard_error()
    _allow_many_files()
    try:
        lock = hold(options.lock)
        if lock is not None:  # else another process is this Service's proxy
            asyncio.run(_run(options))
    except OSError as error:
        log.error("the proxy of service %s/%s can't serve: %s", options.namespace, options.service, error)
        return 1
    return 0


async def _run(options: argparse.Namespace) -> None:
    async with RestApi(unix_socket=options.api_socket) as api:
        events = EventRecorder(api, "service-proxy", lambda: datetime.now(UTC))
        proxy = ServiceProxy(api, events, options.namespace, options.service, ProxyLimits())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, proxy.stop)
        gc.freeze()
        await proxy.run(options.socket)


def _allow_many_files() -> None:
    """Each connection of a client, and each to a replica, is one; the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
