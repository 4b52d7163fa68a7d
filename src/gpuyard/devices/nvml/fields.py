"""NVML's field values: numbers by an id, of which one call gets several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pynvml

#: By nvmlValueType_t: which member of the union has the value.
_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


def field_values(handle: Any, fields: Sequence[int | tuple[int, int]]) -> list[int | None]:
    """What the driver says of each field; None for those that it doesn't know.

    Args:
        handle: NVML's of the GPU.
        fields: an id, or one with its scope, such as the number of an NVLink.

    Raises:
        NVMLError: it doesn't say anything.
    """
    return [_value(field) for field in pynvml.nvmlDeviceGetFieldValues(handle, fields)]


def _value(field: Any) -> int | None:
    if field.nvmlReturn != pynvml.NVML_SUCCESS or field.valueType >= len(_MEMBERS):
        return None
    try:
        return int(getattr(field.value, _MEMBERS[field.valueType]))
    except (ValueError, OverflowError):  # No finite number.
        return None
