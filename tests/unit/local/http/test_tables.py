"""Tables against golden files: golden/KIND.json has the objects, golden/KIND.txt what kubectl would print."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.local.http.tables import table
from gpuyard.local.objects.kinds.cells import human_duration, since
from gpuyard.local.objects.kinds.kind import KindSpec
from gpuyard.local.objects.kinds.pod import POD
from gpuyard.local.objects.kinds.served import yard_kinds

_GOLDEN = Path(__file__).parent / "golden"
_NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
_KINDS = [spec for spec in yard_kinds() if (_GOLDEN / f"{spec.resource.plural}.json").exists()]


def _printed(result: dict[str, Any]) -> str:
    """All columns, wide ones too, as aligned text."""
    rows = [[column["name"].upper() for column in result["columnDefinitions"]]]
    rows += [[str(cell) for cell in row["cells"]] for row in result["rows"]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("spec", _KINDS, ids=lambda spec: spec.resource.plural)
def test_as_kubectl_prints_it(spec: KindSpec) -> None:
    objects = json.loads((_GOLDEN / f"{spec.resource.plural}.json").read_text())
    expected = (_GOLDEN / f"{spec.resource.plural}.txt").read_text()
    assert _printed(table(spec, objects, _NOW)) == expected


def test_every_kind_has_a_golden_table() -> None:
    assert list(yard_kinds()) == _KINDS


def _pod(name: str = "p", **fields: Any) -> dict[str, Any]:
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name}, **fields}


@pytest.mark.parametrize(
    ("include", "row"),
    [
        ("", {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "p"}}),
        (
            "Metadata",
            {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "p"}},
        ),
        ("Object", _pod()),
        ("None", None),
    ],
)
def test_what_rows_carry(include: str, row: Any) -> None:
    assert table(POD, [_pod()], _NOW, include)["rows"][0].get("object") == row


def test_another_wish_is_a_400() -> None:
    with pytest.raises(errors.BadRequest, match='unrecognized includeObject value: "All"'):
        table(POD, [], _NOW, "All")


def test_the_shape_of_a_table() -> None:
    result = table(POD, [], _NOW)
    assert (result["kind"], result["apiVersion"], result["rows"]) == ("Table", "meta.k8s.io/v1", [])
    assert result["columnDefinitions"][0] == {
        "name": "Name",
        "type": "string",
        "format": "name",
        "description": "Name of the object.",
        "priority": 0,
    }
    wide = [c["name"] for c in result["columnDefinitions"] if c["priority"]]
    assert wide == ["IP", "Node", "Nominated Node", "Readiness Gates"]


@pytest.mark.parametrize(
    ("age", "text"),
    [  # apimachinery pkg/util/duration, TestHumanDuration and its neighbours
        (timedelta(seconds=-3), "<invalid>"),
        (timedelta(seconds=-1.5), "0s"),
        (timedelta(seconds=0), "0s"),
        (timedelta(seconds=119.9), "119s"),
        (timedelta(minutes=2), "2m"),
        (timedelta(minutes=2, seconds=5), "2m5s"),
        (timedelta(minutes=9, seconds=59), "9m59s"),
        (timedelta(minutes=10, seconds=5), "10m"),
        (timedelta(minutes=179, seconds=59), "179m"),
        (timedelta(hours=3), "3h"),
        (timedelta(hours=7, minutes=59), "7h59m"),
        (timedelta(hours=8, minutes=59), "8h"),
        (timedelta(hours=47), "47h"),
        (timedelta(hours=48), "2d"),
        (timedelta(days=3, hours=5), "3d5h"),
        (timedelta(days=8, hours=5), "8d"),
        (timedelta(days=729), "729d"),
        (timedelta(days=730), "2y"),
        (timedelta(days=800), "2y70d"),
        (timedelta(days=365 * 8 + 10), "8y"),
    ],
)
def test_durations_as_kubernetes_shortens_them(age: timedelta, text: str) -> None:
    assert human_duration(age.total_seconds()) == text


def test_an_unknown_time() -> None:
    assert since(None, _NOW) == "<unknown>"
    assert since("2026-01-31T11:59:00Z", _NOW) == "60s"
