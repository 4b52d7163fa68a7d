"""Flags as the command line makes them of its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.workloads.spec.overrides import Flag, FlagForm

_FORMS: Mapping[str, tuple[str, FlagForm]] = {
    "env": ("env", FlagForm.ENTRY_OR_KEY),
    "node_selector": ("node-selector", FlagForm.ENTRY),
    "image_pull_secrets": ("image-pull-secret", FlagForm.ITEM),
    "tolerations": ("toleration", FlagForm.TOLERATION),
    "affinity": ("affinity", FlagForm.YAML),
}


def flags_of(**values: Any) -> list[Flag]:
    """`flags_of(gpus="2", env=("A=1",))`; None is an option that wasn't given."""
    flags = []
    for key, value in values.items():
        if key == "run":
            flags.append(Flag("the command", ("run",), value))
            continue
        name, form = _FORMS.get(key, (key, FlagForm.VALUE))
        path = ("resources", key) if key in ("gpus", "cpus", "memory", "shm") else (key,)
        texts = value if isinstance(value, tuple) else () if value is None else (value,)
        flags += [Flag(f"--{name}", path, text, form) for text in texts]
    return flags
