"""`python -m tests.contract`: records what both servers do, and writes the page; `make conformance`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from tests.cluster.harness.cluster import DEFAULT_FOLDER, Cluster
from tests.contract import recordings, targets
from tests.contract.differences import DIFFERENT, UNSERVED
from tests.contract.registry import Case, load_cases, run_cases


def main() -> int:
    """Runs the cases and writes what was seen; 1 when the yard differs without a reason."""
    parser = argparse.ArgumentParser(prog="contract", description=__doc__)
    parser.add_argument("--only", default="", help="cases whose id has this in it; default: all")
    parser.add_argument("--yard", action="store_true", help="compare with what was recorded of Kubernetes")
    options = parser.parse_args()
    cases = [case for case in load_cases().values() if options.only in case.id]
    if not options.yard:
        _record_kubernetes(cases)
    with targets.yard() as target:
        found = _checked(run_cases(cases, target))
    unlike = _unlike(found)
    known = {**recordings.load(recordings.YARD), **found}
    recordings.save(
        recordings.YARD, {name: known[name] for name in known if name in DIFFERENT or name in UNSERVED}
    )
    recordings.PAGE.write_text(recordings.page())
    return 1 if unlike else 0


def _record_kubernetes(cases: list[Case]) -> None:
    """Keeps what the cluster does; of an older Kubernetes where it differs from the newest."""
    minor, found = _of_kubernetes(cases)
    path, truth = recordings.of_kubernetes(minor), recordings.load(recordings.KUBERNETES)
    known = {**recordings.load(path), **found}
    if minor != recordings.NEWEST:
        known = {name: seen for name, seen in known.items() if seen != truth.get(name)}
    recordings.save(path, known)


def _of_kubernetes(cases: list[Case]) -> tuple[str, dict[str, Any]]:
    """Its minor version, and what it did."""
    running = Cluster.open(DEFAULT_FOLDER)
    cluster = running or Cluster.up(DEFAULT_FOLDER, lambda line: print(line, file=sys.stderr))
    try:
        with targets.kubernetes(cluster) as target:
            return cluster.minor, _checked(run_cases(cases, target))
    finally:
        if running is None:
            Cluster.down(DEFAULT_FOLDER)


def _checked(found: dict[str, Any]) -> dict[str, Any]:
    """Those that were carried through; the others are reported."""
    for name, observation in found.items():
        if isinstance(observation, Exception):
            print(f"{name} wasn't carried through: {type(observation).__name__}: {str(observation)[:2000]}\n")
    return {name: seen for name, seen in found.items() if not isinstance(seen, Exception)}


def _unlike(found: dict[str, Any]) -> list[str]:
    """Cases in which the yard differs and shouldn't, or does no longer; each is reported."""
    truth = recordings.load(recordings.KUBERNETES)
    unlike = []
    for name, observation in found.items():
        explained = name in DIFFERENT or name in UNSERVED
        if (observation != truth.get(name)) != explained:
            unlike.append(name)
            print(f"{name} {'is equal now' if explained else 'differs'}")
            print(f"  Kubernetes: {json.dumps(truth.get(name))}\n  yard:       {json.dumps(observation)}\n")
    print(f"{len(found)} cases, {len(unlike)} not as the table of differences says")
    return unlike


if __name__ == "__main__":
    sys.exit(main())
