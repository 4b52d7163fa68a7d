"""How a listing of what a build takes looks."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from gpuyard.building.listing import ListedItem, Listing
from gpuyard.cli.output.results import megabytes, print_json, print_table

#: Rows on a terminal, which shows what is large; a pipe gets all.
_MOST_ROWS = 40


def print_listing(listing: Listing, output: str | None, *, ignored: bool) -> None:
    """What goes in, largest first, or what stays out and why."""
    if output == "json":
        print_json(listing_json(listing))
        return
    for text in (*listing.notices, *(f"warning: {warning}" for warning in listing.warnings)):
        click.echo(_written(text), err=True)
    if ignored:
        _print_rows(("WHAT", "WHY"), [(path, why) for path, why in listing.left_out])
        return
    _print_rows(("SIZE", "LAYER", "WHAT"), [_row(item) for item in listing.items])
    click.echo(_summary(listing))


def _print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    shown = rows[:_MOST_ROWS] if sys.stdout.isatty() else rows
    print_table(header, [[_written(cell) for cell in row] for row in shown], flexible=-1)
    if len(shown) < len(rows):
        click.echo(f"… and {len(rows) - len(shown)} more; a pipe gets all of them")


def _row(item: ListedItem) -> tuple[str, str, str]:
    size = "?" if item.size is None else megabytes(item.size)
    return size, item.layer, item.what + (f" ({', '.join(item.platforms)})" if item.platforms else "")


def _summary(listing: Listing) -> str:
    total = megabytes(sum(item.size or 0 for item in listing.items))
    layers = ", ".join(f"{layer} {megabytes(size)}" for layer, (_, size) in list(listing.layers.items())[:5])
    more = f", and {len(listing.layers) - 5} more" if len(listing.layers) > 5 else ""
    out = f"; {len(listing.left_out)} left out (--ignored says why)" if listing.left_out else ""
    what = "files before compression"
    if any(item.kind in ("wheel", "system package") for item in listing.items):
        what += ", packages as they are fetched"
    return f"\n{total} ({what}): {layers}{more}{out}" if listing.items else f"nothing{out}"


def _written(text: str) -> str:
    """With the bytes of names that are no UTF-8 as `�`: nothing else prints them."""
    return os.fsencode(text).decode("utf-8", "replace")


def listing_json(listing: Listing) -> dict[str, Any]:
    """For machines."""
    return {
        "items": [
            {
                "what": item.what,
                "kind": item.kind,
                "layer": item.layer,
                "size": item.size,
                "platforms": list(item.platforms),
            }
            for item in listing.items
        ],
        "layers": [
            {"title": title, "items": count, "size": size} for title, (count, size) in listing.layers.items()
        ],
        "left_out": [{"path": path, "why": why} for path, why in listing.left_out],
        "notices": list(listing.notices),
        "warnings": list(listing.warnings),
    }
