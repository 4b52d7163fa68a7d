"""Another vendor's GPUs on a yard, by the module of the how-to."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.error import HTTPError

from tests.docs.test_add_a_vendor import PAGE, card
from tests.e2e.test_metrics import scrape
from tests.waiting import until

from .conftest import Yard


def test_a_yard_serves_them_and_says_how_they_are(stopped_yard: Yard, tmp_path: Path) -> None:
    yard = stopped_yard
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    # It reads a folder of the test's in the place of /sys.
    here = code.replace(
        "return AcmeBackend(sys_root)", f"return AcmeBackend(Path({str(tmp_path / 'sys')!r}))"
    )
    assert here != code
    second = [card(tmp_path / "sys", number) for number in (0, 1)][1]
    refused = yard.refused(2, "up", "--gpu-backend", "acme_gpus.py")
    assert f"--gpu-backend '{yard.work}/acme_gpus.py' can't be loaded" in refused
    (yard.work / "acme_gpus.py").write_text(here)
    yard.ok("up", "--gpu-backend", "acme_gpus.py", "--simulate", "H100:1")
    until(
        lambda: yard.api("GET", f"/api/v1/nodes/{yard.status()['node']}")["status"]["allocatable"],
        "both vendors' GPUs can be had",
        lambda found: (found.get("acme.example/gpu"), found.get("nvidia.com/gpu")) == ("2", "1"),
    )
    token = (yard.home / "token").read_text().strip()
    until(
        lambda: scrape(yard, token=token),
        "the exporter has them",
        lambda text: "ACME-70" in text and "ACME-71" in text,
        not_yet=HTTPError,
    )
    (second / "state").write_text("dead\n")
    until(
        lambda: yard.ok("node"),
        "the node says what is wrong with one",
        lambda out: "driver says: dead" in out,
    )
    assert "/acme_gpus.py, not none" in yard.refused(1, "up", "--no-gpu-backend")
