"""Objects as rows, for `kubectl get`.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from gpuyard import errors
from gpuyard.kube.objects import Manifest
from gpuyard.local.objects.kinds.kind import KindSpec

INCLUDES = ("None", "Metadata", "Object")


def table(spec: KindSpec, manifests: Sequence[Manifest], now: datetime, include: str = "") -> Manifest:
    """A `meta.k8s.io/v1` Table without metadata of its own.

    Args:
        spec: whose columns are shown.
        manifests: one row each, in order.
        now: ages are measured from here.
        include: what a row carries of its object: None, Metadata (the default) or Object.

    Raises:
        BadRequest: another `include`.
    """
    include = include or "Metadata"
    if include not in INCLUDES:
        raise errors.BadRequest(
            f'unrecognized includeObject value: "{include}": use one of {", ".join(INCLUDES)}'
        )
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": column_definitions(spec),
        "rows": [_row(spec, manifest, now, include) for manifest in manifests],
    }


def column_definitions(spec: KindSpec) -> list[dict[str, Any]]:
    """The columns of a kind as a Table describes them."""
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": column.format,
            "description": column.description or column.name,
            "priority": column.priority,
        }
        for column in spec.columns
    ]


def metadata_only(manifest: Manifest) -> Manifest:
    """The object as PartialObjectMetadata."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": manifest["metadata"],
    }


def _row(spec: KindSpec, manifest: Manifest, now: datetime, include: str) -> dict[str, Any]:
    row: dict[str, Any] = {"cells": [column.cell(manifest, now) for column in spec.columns]}
    if include == "Object":
        row["object"] = manifest
    elif include == "Metadata":
        row["object"] = metadata_only(manifest)
    return row
