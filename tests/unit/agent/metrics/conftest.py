from dataclasses import replace

import pytest

from gpuyard.devices.inventory import Inventory, Mig, MigInstance
from gpuyard.devices.simulated.simulation import parse_simulation, simulate
from gpuyard.gpus.mig_profiles import MigEngines


@pytest.fixture
def inventory() -> Inventory:
    """Two H100s; the second is split."""
    found = simulate(parse_simulation("H100:2"), seed="node")
    parts = tuple(
        MigInstance(
            index=place,
            uuid=f"MIG-{place}",
            profile="3g.40gb",
            gi_id=place + 1,
            ci_id=0,
            start=4 * place,
            size=4,
            gi_slices=3,
            ci_slices=3,
            memory_mib=40448,
            multiprocessors=60,
            engines=MigEngines(copy=3),
        )
        for place in range(2)
    )
    one, other = found.devices
    return replace(found, devices=(one, replace(other, mig=Mig(enabled=True, pending=True, instances=parts))))
