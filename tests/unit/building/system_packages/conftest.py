from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.building.system_packages.debian_archive import DebianArchive, serve


@pytest.fixture
def archive() -> Iterator[DebianArchive]:
    """An archive that is served, still empty."""
    made = DebianArchive()
    with serve(made):
        yield made
