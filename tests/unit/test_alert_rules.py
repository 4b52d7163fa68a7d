"""The alert rules of deploy/prometheus: Prometheus' own tool tries them, on metrics that there are."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gpuyard.agent.metrics.families import FAMILIES

FOLDER = Path(__file__).parents[2] / "deploy/prometheus"


def test_each_alert_fires_when_it_should_and_else_not() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: tools/install-system-packages metrics")
    done = subprocess.run(
        [promtool, "test", "rules", "rules-test.yaml"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test_and_knows_its_metrics() -> None:
    rules, tests = (FOLDER / "rules.yaml").read_text(), (FOLDER / "rules-test.yaml").read_text()
    alerts = re.findall(r"alert: (\w+)", rules)
    assert len(alerts) == 8
    for alert in alerts:
        assert f"alertname: {alert}\n" in tests
    used = set(re.findall(r"\b(?:DCGM|gpuyard)_\w+", rules))
    assert used <= {family.name for family in FAMILIES}
