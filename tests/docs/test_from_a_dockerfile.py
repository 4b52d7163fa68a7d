"""Whoever claims something of a Dockerfile's line tries it: tests/unit/building/test_from_a_dockerfile.py."""

from __future__ import annotations

from tests.unit.building.test_from_a_dockerfile import CHECKS, PAGE


def test_every_row_of_the_page_is_tried() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [line.strip("| ").split(" | ")[0].strip() for line in lines]
    rows = [cell for cell in cells if cell not in ("Dockerfile", "Docker") and not cell.startswith("---")]
    assert len(rows) == len(set(rows))
    assert set(rows) == set(CHECKS)
