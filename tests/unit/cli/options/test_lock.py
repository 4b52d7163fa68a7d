from __future__ import annotations

import pytest

from gpuyard.building.options import keeping_of
from gpuyard.building.request import Keeping
from gpuyard.cli.options.lock import lock_environ


@pytest.mark.parametrize(
    ("environ", "locked", "frozen", "keeping"),
    [
        ({}, False, False, Keeping.UP_TO_DATE),
        ({}, True, False, Keeping.LOCKED),
        ({}, False, True, Keeping.FROZEN),
        ({"GPUYARD_FROZEN": "1"}, False, False, Keeping.FROZEN),
        # A flag wins over what a whole machine is told.
        ({"GPUYARD_FROZEN": "1"}, True, False, Keeping.LOCKED),
        ({"GPUYARD_LOCKED": "1"}, False, True, Keeping.FROZEN),
    ],
)
def test_flags_say_what_the_variables_say(
    environ: dict[str, str], locked: bool, frozen: bool, keeping: Keeping
) -> None:
    assert keeping_of(lock_environ(environ, locked=locked, frozen=frozen)) is keeping
