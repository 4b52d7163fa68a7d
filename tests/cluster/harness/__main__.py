"""`python -m tests.cluster.harness up|down|status`: a real Kubernetes on this machine, for a person."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.cluster.harness.cluster import DEFAULT_FOLDER, Cluster
from tests.cluster.harness.namespaces import ClusterError


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "status"])
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="default: %(default)s")
    options = parser.parse_args()
    folder = options.folder.absolute()
    # A terminal that closes, and CI that gives up, are to leave as little behind as Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        return {"up": _up, "down": _down, "status": _status}[options.command](folder)
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("cluster: interrupted; all that was started is stopped again", file=sys.stderr)
    return 1


def _up(folder: Path) -> int:
    if cluster := Cluster.open(folder):
        print("the cluster is up already", file=sys.stderr)
    else:
        cluster = Cluster.up(folder, lambda line: print(line, file=sys.stderr, flush=True))
        print(f"the cluster is up after {cluster.state.seconds['all']} s", file=sys.stderr)
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    print(f"export KUBECONFIG_GPUYARD_TEST={cluster.kubeconfig}")
    print(f"export REGISTRY={cluster.registry}")
    return 0


def _down(folder: Path) -> int:
    # With those of test processes that were killed.
    found = [Cluster.down(each) for each in (folder, *folder.parent.glob(f"{folder.name}-gw*"))]
    print("stopped" if any(found) else "there is no cluster", file=sys.stderr)
    return 0


def _status(folder: Path) -> int:
    cluster = Cluster.open(folder)
    if cluster is None:
        print("there is no cluster", file=sys.stderr)
        return 1
    processes = {**cluster.state.parts, **{f"mounts@{n}": p for n, p in cluster.state.holders.items()}}
    for name, process in processes.items():
        state = f"{process.resident_bytes / 1e6:6.0f} MB" if process.alive else "ended"
        print(f"{name:26} {process.pid:>7} {state:>9}")
    print(f"{'together':26} {'':7} {sum(p.resident_bytes for p in processes.values()) / 1e6:6.0f} MB")
    print("seconds: " + ", ".join(f"{step} {seconds}" for step, seconds in cluster.state.seconds.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
