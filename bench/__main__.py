"""`python -m bench [-o json] [NAME...]`: runs measurements and prints them beside their limits and peers."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import asdict

from bench.row import Row, Unavailable

#: One module each, with a `measure()`.
MEASUREMENTS = (
    *(
        "help",
        "commands",
        "ps",
        "up",
        "memory",
        "agent",
        "exporter",
        "first_line",
        "logs",
        "interactive",
        "pods",
        "runs",
        "sweep",
    ),
    *("creates", "images", "nodes", "service", "cluster"),
)

_TABLE = "{:<36} {:>10} {:>12} {:>4}   {:<28} {:>10} {:>8}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}; default: all")
    parser.add_argument("-o", dest="output", choices=("table", "json"), default="table")
    options = parser.parse_args()
    if unknown := set(options.name) - set(MEASUREMENTS):
        parser.error(f"no measurement {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")

    rows: list[Row] = []
    if options.output == "table":
        print(_TABLE.format("", "here", "limit", "met", "peer", "its figure", "ratio"))
    for name in options.name or MEASUREMENTS:
        try:
            measured = importlib.import_module(f"bench.{name}").measure()
        except Unavailable as why:
            print(f"{name}: not measured: {why}", file=sys.stderr)
            continue
        rows += measured
        if options.output == "table":
            for row in measured:
                print(_line(row), flush=True)
    if options.output == "json":
        print(json.dumps([asdict(row) | {"met": row.met, "ratio": row.ratio} for row in rows], indent=2))


def _line(row: Row) -> str:
    def figure(value: float) -> str:
        return f"{value:.3g} {row.unit}" if value < 100 else f"{value:.0f} {row.unit}"

    return _TABLE.format(
        row.name,
        figure(row.figure),
        f"{'≥' if row.higher_is_better else '≤'} {figure(row.at_least)}",
        "yes" if row.met else "NO",
        row.peer,
        figure(row.peer_figure) if row.peer_figure else "–",
        f"{row.ratio:.2f} ×" if row.ratio else "–",
    )


main()
