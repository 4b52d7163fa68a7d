from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gpuyard.gpus.faults import GpuFault, format_faults, in_one_line, node_faults, why_none

LOST = GpuFault(3, "GPU-3", "XID 79", "2026-01-31T12:03:59Z")


def node(text: str) -> dict[str, Any]:
    return {"metadata": {"name": "a", "annotations": {"gpuyard.io/gpu-health": text}}}


def test_says_which_gpu_why_and_since_when() -> None:
    said = "is unhealthy: XID 79 (GPU has fallen off the bus) since 2026-01-31 12:03 UTC"
    assert str(LOST) == f"GPU 3 {said}"
    assert LOST.on_node("a") == f"GPU 3 of node a {said}"
    assert LOST.remedy(on_yard=False).startswith("drain the node and reboot it")
    simulated = replace(LOST, simulated=True)
    assert f"gpuyard node fault --gpu {LOST.index} --xid recovered" in simulated.remedy(on_yard=True)
    assert LOST.remedy(on_yard=True).startswith("end what runs here (`gpuyard down --stop`) and reboot it")


def test_an_unknown_reason_says_itself_and_where_to_look() -> None:
    fault = GpuFault(0, "GPU-0", "XID 9999", "")
    assert str(fault) == "GPU 0 is unhealthy: XID 9999"
    assert "nvidia-smi -q -i 0" in fault.remedy(on_yard=True)


def test_many_are_counted() -> None:
    faults = [GpuFault(n, "", "lost", "") for n in range(8)]
    assert in_one_line(faults).endswith(", and 6 more")
    assert in_one_line([]) == ""


OURS = {"gpuyard.io/gpu-model": "H100"}


@pytest.mark.parametrize(
    ("faults", "labels", "said"),
    [
        ([LOST, LOST], OURS, "GPU 3 is unhealthy: XID 79"),
        ([LOST], {}, "GPU 3 is unhealthy: XID 79"),
        # The agent would have named the other, too.
        ([LOST], OURS, "its device plugin is gone: "),
        ([], OURS, "its device plugin is gone: "),
        ([], {}, "its device plugin is gone, or says that all are unhealthy"),
    ],
)
def test_none_that_can_be_had_are_unhealthy_or_unserved(
    faults: list[GpuFault], labels: dict[str, str], said: str
) -> None:
    assert why_none(faults, labels, total=2).startswith(said)


def test_what_is_written_is_read() -> None:
    faults = (LOST, GpuFault(4, "GPU-4", "lost", ""))
    assert node_faults(node(format_faults(faults))) == faults
    assert format_faults(()) == ""
    assert node_faults({"metadata": {"name": "a"}}) == ()


@pytest.mark.parametrize(
    "text", ["{", "{}", "null", "3", '[1, "a", {}, {"index": "x"}, null]', "[" * 100_000], ids=range(6)
)
def test_what_nobody_can_read_is_no_fault(text: str) -> None:
    assert node_faults(node(text)) == ()


@pytest.mark.parametrize("index", [10**400, -1, True], ids=range(3))
def test_no_gpu_has_such_a_number(index: int) -> None:
    assert node_faults(node(json.dumps([{"index": index, "reason": "lost", "uuid": "a"}]))) == ()


def test_what_anybody_may_write_is_bounded_and_printable() -> None:
    raw = [{"index": n, "reason": "\x1b[31mred" + "x" * 1000, "uuid": ["a"]} for n in range(1000)]
    faults = node_faults(node(json.dumps(raw)))
    assert len(faults) == 256
    assert "\x1b" not in str(faults[0]) and len(str(faults[0])) < 200
