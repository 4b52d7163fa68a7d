"""The documents name every check of `gpuyard doctor`, in its order, and every key of its JSON."""

from __future__ import annotations

import re
from pathlib import Path

from gpuyard.doctor.check import Check, CheckState, NodeFinding, Report
from tests.docs.test_docs import read, section
from tests.unit.doctor.test_cluster import ORDER as CLUSTER
from tests.unit.doctor.test_yard import ORDER as YARD

GUIDE = Path(__file__).resolve().parents[2] / "docs/how-to/find-out-what-is-broken.md"


def rows(text: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def test_every_check_is_documented_in_its_order() -> None:
    guide = GUIDE.read_text()
    assert rows(section(guide, "## On a cluster")) == CLUSTER
    assert rows(guide.split("## On a cluster")[0]) == ["ok", "warning", "broken", "skipped"]
    named = ", ".join(f"`{name}`" for name in YARD)
    assert named in section(read("json.md"), "## doctor")


def test_every_key_is_documented() -> None:
    check = Check("n", CheckState.OK, "m", nodes=(NodeFinding("a", CheckState.OK, "m"),))
    raw = Report("yard", "", (check,)).to_json()
    text = section(read("json.md"), "## doctor")
    assert rows(text) == [*raw, *raw["checks"][0]]
    assert all(f"`{key}`" in text for key in raw["checks"][0]["nodes"][0])
    assert all(f"`{outcome}`" in text for outcome in CheckState)
