"""What may be meant by a key that a spec doesn't have."""

from __future__ import annotations

from gpuyard.workloads.spec.model import RESOURCES, SPEC
from gpuyard.workloads.spec.text_tree import Path

#: Words of other tools that don't look like ours.
_ALSO_KNOWN_AS = {
    "command": "run", "cmd": "run", "args": "run", "script": "run", "entrypoint": "run",
    "environment": "env", "accelerators": "resources.gpus", "gpu": "resources.gpus",
    "nvidia.com/gpu": "resources.gpus", "mem": "resources.memory", "backoffLimit": "retries",
    "priorityClassName": "priority",
}  # fmt: skip


def unknown_key(path: Path, siblings: list[str]) -> str:
    """Says so, with the key that was probably meant.

    Args:
        path: of the key.
        siblings: the keys that would do in its place.
    """
    import difflib

    key = str(path[-1])
    near = difflib.get_close_matches(key, siblings, n=1, cutoff=0.6)
    if near:
        return f"unknown key; did you mean {near[0]!r}?"
    elsewhere = {name: f"resources.{name}" for name in RESOURCES.keys} | _ALSO_KNOWN_AS
    if len(path) == 1 and key in elsewhere:
        return f"unknown key; did you mean {elsewhere[key]!r}?"
    if key in SPEC.keys:
        return f"unknown key here; {key!r} belongs at the top level"
    return f"unknown key; the keys here are {', '.join(siblings)}"
