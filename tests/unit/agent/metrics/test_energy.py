import pytest

from gpuyard.agent.metrics.energy import EnergyAccount, EnergyAccounts
from gpuyard.agent.metrics.holdings import Holding, Holdings
from gpuyard.devices.inventory import Inventory
from gpuyard.devices.readings import Reading


class Node:
    """Two GPUs that draw 1 and 2 J a second."""

    def __init__(self, inventory: Inventory, *, counts: bool = True) -> None:
        self.accounts = EnergyAccounts()
        self._inventory = inventory
        self._counts = counts
        self._now_s = 100.0

    def passes(self, seconds: float, *held: tuple[str, str]) -> None:
        """After so long these pods hold these devices."""
        self._now_s += seconds
        readings = {
            gpu.uuid: Reading(energy_mj=round(self._now_s * 1000 * (1 + gpu.index)))
            if self._counts
            else Reading(power_w=1.0 + gpu.index)
            for gpu in self._inventory.devices
        }
        holdings = Holdings(tuple(Holding("n", pod, "c", "r", device) for pod, device in held))
        self.accounts.look(self._inventory, readings, holdings, self._now_s)

    @property
    def used(self) -> dict[tuple[str, str], float]:
        return {(each.pod, each.scope): round(j, 6) for each, j in self.accounts.used_j.items()}


@pytest.mark.parametrize("counts", [True, False])
def test_a_pod_is_charged_while_it_holds_the_gpu(inventory: Inventory, counts: bool) -> None:
    node, gpu = Node(inventory, counts=counts), inventory.devices[0].uuid
    node.passes(0)
    node.passes(10, ("a", gpu))
    assert node.used == {("a", "pod"): 0.0}
    node.passes(10, ("a", gpu))
    node.passes(5, ("b", gpu))
    node.passes(2)
    assert node.used == {("a", "pod"): 15.0, ("b", "pod"): 2.0}
    node.passes(100)
    assert node.used == {("a", "pod"): 15.0, ("b", "pod"): 2.0}, "what nobody held is nobody's"


def test_who_shares_a_gpu_gets_a_part(inventory: Inventory) -> None:
    node, gpu = Node(inventory), inventory.devices[0].uuid
    shares = (("a", f"{gpu}::0"), ("a", f"{gpu}::1"), ("b", f"{gpu}::2"))
    node.passes(0, *shares)
    node.passes(30, *shares)
    assert node.used == {("a", "share"): 20.0, ("b", "share"): 10.0}


def test_who_has_a_mig_instance_gets_a_part_by_its_memory(inventory: Inventory) -> None:
    node = Node(inventory)
    node.passes(0, ("a", "MIG-0"))
    node.passes(10, ("a", "MIG-0"))
    assert node.used == {("a", "share"): pytest.approx(20 * 40448 / 81559, abs=1e-6)}


def test_a_driver_that_was_loaded_anew_takes_nothing_away(inventory: Inventory) -> None:
    accounts, gpu = EnergyAccounts(), inventory.devices[0].uuid
    holdings = Holdings((Holding("n", "a", "c", "r", gpu),))
    for now_s, energy_mj in ((0, 5_000_000), (10, 6_000_000), (20, 1_000), (30, 11_000)):
        reading = Reading(energy_mj=energy_mj, power_w=100.0)
        accounts.look(inventory, {gpu: reading}, holdings, now_s)
    assert accounts.used_j == {EnergyAccount("n", "a", "pod"): pytest.approx(1000 + 1000 + 10)}


def test_a_pod_that_ended_is_forgotten_after_a_while(inventory: Inventory) -> None:
    node, gpu = Node(inventory), inventory.devices[0].uuid
    node.passes(0, ("a", gpu))
    node.passes(1000)
    assert node.used == {("a", "pod"): 1000.0}
    node.passes(1000)
    assert node.used == {}
