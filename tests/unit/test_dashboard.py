"""The dashboard of deploy/grafana: Grafana can import it, and it asks for what the exporter says."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuyard.agent.metrics import families

DASHBOARD = json.loads((Path(__file__).parents[2] / "deploy/grafana/gpuyard-gpus.json").read_text())
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
OF_NO_GPU = {
    *(families.POD_ENERGY, families.BACKEND_UP, families.POD_RESOURCES_UP, families.POD_RESOURCES_AGE),
    *(families.LINK, families.AGENT, families.CPU, families.RESIDENT),
}
VARIABLES = {each["name"]: each for each in DASHBOARD["templating"]["list"]}


def targets() -> list[dict[str, Any]]:
    return [target for panel in DASHBOARD["panels"] for target in panel["targets"]]


def expressions() -> list[str]:
    return [target["expr"] for target in targets()]


def queries() -> list[str]:
    return [each["query"]["query"] for each in VARIABLES.values() if each["type"] == "query"]


def labels(family: families.Family) -> set[str]:
    found = {*families.NODE_LABELS, *family.labels}
    if family not in OF_NO_GPU:
        found |= set(families.GPU_LABELS)
    if family in (*families.MEASURED, families.XID_ERRORS):
        found |= set(families.MEASURED_LABELS)
    if family in (families.HEALTHY, families.FAULT):
        found |= {"GPU_I_PROFILE", "GPU_I_ID"}
    return found


LABELS = {family.name: labels(family) for family in families.FAMILIES}


def selected(text: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric that an expression names, with the labels that it is selected by."""
    for name, matchers in re.findall(r"\b((?:DCGM|gpuyard|process)_\w+)(?:\{([^}]*)\})?", text):
        yield name, set(re.findall(r"(\w+)\s*[=!]", re.sub(r'"[^"]*"', "", matchers)))


@pytest.mark.parametrize("text", [*expressions(), *queries()])
def test_it_asks_for_metrics_that_there_are_by_labels_that_they_have(text: str) -> None:
    found = list(selected(text))
    assert found
    for name, used in found:
        assert name in LABELS
        assert used <= LABELS[name]
    grouped = re.findall(r"\b(?:by|on|without|ignoring) \(([^)]*)\)|, (\w+)\)$", text)
    for names in grouped:
        for label in re.findall(r"\w+", ",".join(names)):
            assert label in set.intersection(*(LABELS[name] for name, _ in found))


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_what_a_panel_shows_of_a_series_is_a_label_of_it(panel: dict[str, Any]) -> None:
    columns = [
        set(step["options"]["include"]["names"]) - {"Value"} for step in panel.get("transformations", ())
    ]
    for target in panel["targets"]:
        known = set.intersection(*(LABELS[name] for name, _ in selected(target["expr"])))
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])).union(*columns) <= known


def test_grafana_can_import_it_for_any_prometheus() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["uid"] and DASHBOARD["title"]
    # An exported dashboard has the number that it had in another Grafana.
    assert "id" not in DASHBOARD
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    sources = [each["datasource"] for each in (*DASHBOARD["panels"], *targets())]
    sources += [each["datasource"] for each in VARIABLES.values() if each["type"] == "query"]
    assert all(source == DATASOURCE for source in sources)
    assert VARIABLES["datasource"]["type"] == "datasource"


def test_its_variables_are_all_used_and_all_there() -> None:
    used = set(re.findall(r"\$(\w+)", " ".join((*expressions(), *queries()))))
    assert (
        used - {"__range", "__rate_interval"}
        == {"node", "gpu", "namespace"}
        == VARIABLES.keys() - {"datasource"}
    )


def test_no_panel_lies_on_another() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        own = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & own
        cells |= own


def test_prometheus_understands_each_expression(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: tools/install-system-packages metrics")
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__(range|rate_interval)", "5m", text)}
        for number, text in enumerate(expressions())
    ]
    # JSON is YAML.
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
