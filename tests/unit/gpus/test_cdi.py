import json

import pytest

from gpuyard.gpus.cdi import CdiFault, CdiTrouble, format_cdi_faults, node_cdi_faults
from gpuyard.kube.objects import Manifest

FAULTS = (
    CdiFault(CdiTrouble.PIPE, "/var/run/cdi/pipe.json"),
    CdiFault(CdiTrouble.DUPLICATE, "/var/run/cdi/nvidia.yaml"),
    CdiFault(CdiTrouble.UNWRITTEN, "/var/run/cdi/ours.json", "Read-only file system"),
    CdiFault(CdiTrouble.REWRITTEN, "/var/run/cdi/ours.json", "deleted at 12:03 UTC"),
)


def node(text: str) -> Manifest:
    return {"metadata": {"name": "a", "annotations": {"gpuyard.io/cdi": text}}}


def test_what_is_written_is_read_the_worst_first() -> None:
    assert node_cdi_faults(node(format_cdi_faults(reversed(FAULTS)))) == FAULTS
    assert format_cdi_faults(()) == ""
    assert [fault.is_broken for fault in FAULTS] == [True, True, True, False]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.trouble))
def test_each_names_its_file_and_what_mends_it(fault: CdiFault) -> None:
    assert fault.file in str(fault) and fault.detail in str(fault)
    assert fault.remedy


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[" * 100_000, "{}", "[1]", '[{"trouble":"other","file":"f"}]', "[{}]"]
)
def test_what_is_not_readable_is_left_out(text: str) -> None:
    assert node_cdi_faults(node(text)) == ()


def test_a_folder_full_of_duplicates_says_as_much_as_an_annotation_holds() -> None:
    many = [CdiFault(CdiTrouble.DUPLICATE, f"/var/run/cdi/{number}.json") for number in range(10_000)]
    text = format_cdi_faults([*many, FAULTS[2]])
    # Of all annotations of an object together, 256 KiB.
    assert len(text) < 16_000
    assert node_cdi_faults(node(text))[0] == many[0]


def test_nothing_gets_to_a_terminal_that_is_not_text() -> None:
    raw = [{"trouble": "duplicate", "file": "\x1b[2J" + "x" * 10_000}]
    (fault,) = node_cdi_faults(node(json.dumps(raw)))
    assert str(fault).isprintable() and len(fault.file) == 300
