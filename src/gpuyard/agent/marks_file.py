"""What the agent wants written on its node, in a file: the labels of its GPUs, and what is wrong with them.

The agent knows the GPUs and has no right to change the node; the follower (`agent.labelling`) has that right
and knows no GPUs. All that they share is this file, on a yard as on a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from gpuyard import errors
from gpuyard.agent.json_file import read_json
from gpuyard.atomic_files import replace_file


@dataclass(frozen=True)
class NodeMarks:
    """What is to be written on a node, and what the metrics say of how its GPUs are offered.

    Attributes:
        labels, annotations: of the node.
        problems: what is wrong: condition → its reason and its message. Of `tenancy.node_marks.CONDITIONS`
            those that aren't there are false.
        gpus: UUID of a GPU or MIG instance → `sharing` and `replicas` of one that is shared, and `unoffered`:
            why it, or a part of it, isn't offered as the options ask.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    gpus: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


_KEYS = {each.name for each in fields(NodeMarks)}


def write_marks(path: Path, marks: NodeMarks) -> None:
    """Replaces the file, whole or not at all.

    Raises:
        DeviceError: it can't be written.
    """
    try:
        replace_file(path, json.dumps(asdict(marks)).encode(), mode=0o644)
    except OSError as error:
        raise errors.DeviceError(
            f"can't write the node's marks {path}: {error.strerror}",
            remedy="name another file with --marks-file",
        ) from error


def read_marks(path: Path) -> NodeMarks | None:
    """The marks; None as long as there is no file.

    Raises:
        DeviceError: it isn't what `write_marks` writes.
    """
    return read_json(path, _marks)


def _marks(raw: Any) -> NodeMarks:
    if not isinstance(raw, dict) or raw.keys() != _KEYS:
        raise ValueError(f"it is no JSON object of {', '.join(sorted(_KEYS))}")
    for part in (raw["labels"], raw["annotations"], *raw["problems"].values(), *raw["gpus"].values()):
        if not isinstance(part, dict) or not all(isinstance(text, str) for text in part.values()):
            raise ValueError("it has what is no text")
    # JSON has escapes for halves of characters, which neither the API nor a scrape can be sent.
    json.dumps(raw, ensure_ascii=False).encode()
    return NodeMarks(**raw)
