from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gpuyard.client.informer import Handler
from gpuyard.kube.nodes import with_power, without_power
from gpuyard.local.daemon.node_power import NodePower
from tests.waiting import until_async

NODE: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {}}


class Nodes:
    """An informer of nodes that says what it is told to."""

    def __init__(self) -> None:
        self.handlers: list[Handler] = []

    def add_handler(self, handler: Handler) -> None:
        self.handlers.append(handler)

    def say(self, node: dict[str, Any] | None) -> None:
        for handler in self.handlers:
            handler(NODE, node)


class Machine:
    """A node with one loop, and what happened to it."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.nodes = Nodes()
        self.power = NodePower("a", self.cut)
        self.power.follow(self.nodes)  # type: ignore[arg-type]

    async def cut(self) -> None:
        self.happened.append("cut")

    async def loop(self) -> None:
        self.happened.append("begins")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # as a loop that has something to close
            self.happened.append("ends")

    async def has(self, *happened: str) -> None:
        await until_async(lambda: self.happened, "the node's story", lambda found: found == [*happened])


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    machine = Machine()
    tasks = [asyncio.create_task(machine.power.run()), asyncio.create_task(machine.power.keep(machine.loop))]
    await machine.has("begins")
    yield machine
    for task in tasks:
        task.cancel()
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert all(isinstance(one, asyncio.CancelledError) for one in ended)


async def test_loops_end_before_the_cut_and_begin_when_the_power_is_back(machine: Machine) -> None:
    machine.nodes.say(without_power(NODE))
    await machine.has("begins", "ends", "cut")
    assert not machine.power.is_on
    machine.nodes.say(without_power(NODE))  # said again, as by a change of its status
    machine.nodes.say(with_power(without_power(NODE)))
    await machine.has("begins", "ends", "cut", "begins")
    assert machine.power.is_on


async def test_what_others_say_of_the_node_and_of_others_changes_nothing(machine: Machine) -> None:
    other = {**without_power(NODE), "metadata": {**without_power(NODE)["metadata"], "name": "b"}}
    machine.nodes.say(other)
    machine.nodes.say(NODE)
    machine.nodes.say(None)
    for _ in range(9):
        await asyncio.sleep(0)
    assert machine.happened == ["begins"]


async def test_a_short_cut_is_a_cut(machine: Machine) -> None:
    machine.nodes.say(without_power(NODE))
    while "ends" not in machine.happened:
        await asyncio.sleep(0)
    machine.nodes.say(NODE)
    await machine.has("begins", "ends", "cut", "begins")
    assert machine.power.is_on


async def test_a_loop_that_fails_says_so() -> None:
    async def fails() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await Machine().power.keep(fails)


async def test_a_yard_that_ends_during_a_cut_ends(machine: Machine) -> None:
    """The fixture cancels both tasks and waits for them."""
    machine.nodes.say(without_power(NODE))
    await asyncio.sleep(0)
    assert not machine.power.is_on
