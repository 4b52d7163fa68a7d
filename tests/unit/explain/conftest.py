"""Fixtures that the tests of decisions have, too."""

from __future__ import annotations

from tests.unit.scheduling.conftest import snapshot_of, yards

__all__ = ["snapshot_of", "yards"]
