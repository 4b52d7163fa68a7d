"""What the agent wants written on its node, in a file: the labels of its GPUs, and what is wrong with them.

The agent knows the GPUs and has no right to change the node; the follower (`agent.labelling`) has that right
and knows no GPUs. All that they share is this file, on a yard as on a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gpuyard import errors
from gpuyard.atomic_files import replace_file
from gpuyard.regular_files import read_regular


@dataclass(frozen=True)
class NodeMarks:
    """Labels and annotations of a node, and what is wrong: condition → its reason and its message.

    Of `tenancy.node_marks.CONDITIONS` those that aren't there are false.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


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
    try:
        raw = json.loads(read_regular(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise errors.DeviceError(f"can't read the node's marks {path}: {error}") from error
    if not isinstance(raw, dict) or raw.keys() != {"labels", "annotations", "problems"}:
        raise errors.DeviceError(f"{path} is no JSON object of labels, annotations and problems")
    problems = raw["problems"]
    parts = [
        raw["labels"],
        raw["annotations"],
        *(problems.values() if isinstance(problems, dict) else [None]),
    ]
    if not all(map(_is_texts, parts)):
        raise errors.DeviceError(f"{path} has what is no text as a label, an annotation or a problem")
    return NodeMarks(raw["labels"], raw["annotations"], problems)


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
