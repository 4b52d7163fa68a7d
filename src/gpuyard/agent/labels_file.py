"""A node's labels in a file, from the container that knows the GPUs to the one that may change the node."""

from __future__ import annotations

import json
from pathlib import Path

from gpuyard import errors


def write_labels(path: Path, labels: dict[str, str]) -> None:
    """Replaces the file, whole or not at all.

    Raises:
        DeviceError: it can't be written.
    """
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_text(json.dumps(labels))
        beside.chmod(0o644)
        beside.replace(path)
    except OSError as error:
        raise errors.DeviceError(
            f"can't write the labels {path}: {error.strerror}", remedy="name another file with --labels-file"
        ) from error


def read_labels(path: Path) -> dict[str, str] | None:
    """The labels; None as long as there is no file.

    Raises:
        DeviceError: it isn't what `write_labels` writes.
    """
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise errors.DeviceError(f"can't read the labels {path}: {error}") from error
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise errors.DeviceError(f"{path} is no JSON object of texts")
    return raw
