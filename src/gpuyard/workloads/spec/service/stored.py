"""A service's spec as its Deployment keeps it: the next change need say only what is to change (pure)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuyard.kube.objects import Manifest, annotations_of
from gpuyard.kube.wellknown import ANNOTATION_SPEC
from gpuyard.workloads.spec.text_tree import Node

#: What YAML 1.2 has no place for, or takes for the end of a line (https://yaml.org/spec/1.2.2/#51-character-set).
_NOT_YAML = "[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]"
#: Keys of `service` that say how many replicas there are, which a template hasn't.
_SCALING = ("port", "replicas", "target", "scale_to_zero")


@dataclass(frozen=True)
class StoredSpec:
    """What a Deployment keeps.

    Attributes:
        text: that `load_spec` reads.
        folder: that its paths start from.
    """

    text: str
    folder: str

    @property
    def annotation(self) -> str:
        """As the Deployment keeps it."""
        return _dumps({"folder": self.folder, "spec": json.loads(self.text)})

    @classmethod
    def of(cls, manifest: Manifest) -> StoredSpec | None:
        """Of a Deployment or a ReplicaSet; None where there is none, or somebody spoilt it."""
        try:
            raw = json.loads(annotations_of(manifest)[ANNOTATION_SPEC])
            found = cls(_dumps(raw["spec"]), raw["folder"])
        except (KeyError, TypeError, ValueError):
            return None
        service = raw["spec"].get("service") if isinstance(raw["spec"], dict) else None
        return found if isinstance(service, dict) and isinstance(found.folder, str) else None

    @property
    def says_how_to_update(self) -> bool:
        """Whether its user chose how many replicas more, or fewer, an update may have."""
        return bool(json.loads(self.text)["service"].keys() & {"max_surge", "max_unavailable"})

    def is_like(self, other: StoredSpec) -> bool:
        """Whether both ask for the same; an update names the service, which its spec may not."""
        mine, theirs = ({**json.loads(one.text), "name": None} for one in (self, other))
        return mine == theirs and self.folder == other.folder

    def with_replicas(self, count: int) -> StoredSpec:
        """With another number of replicas."""
        return self._with({"replicas": str(count)})

    def with_scaling_of(self, other: StoredSpec) -> StoredSpec:
        """With the port of the address that the other says, its number of replicas, and what decides it."""
        service = json.loads(other.text)["service"]
        return self._with({key: service.get(key) for key in _SCALING})

    def _with(self, keys: Mapping[str, Any]) -> StoredSpec:
        raw = json.loads(self.text)
        merged = {**raw["service"], **keys}
        raw["service"] = {key: value for key, value in merged.items() if value is not None}
        return StoredSpec(_dumps(raw), self.folder)


def as_text(root: Mapping[str, Node], env: Mapping[str, str]) -> str:
    """The tree of a checked spec.

    Args:
        root: of the file and the flags.
        env: complete, with what came from the shell.
    """
    said = root.get("env")
    named = said.items() if isinstance(said, dict) else ()
    kept = {**root, "env": {name: _filled(node, env.get(name)) for name, node in named} or None}
    return _dumps({key: node for key, node in kept.items() if node is not None})


def _filled(node: Node, text: str | None) -> Node:
    """A variable with its value, which refers to no shell any more; without one it is an image's."""
    if text is None:
        return node
    written = text.replace("${", "$${")
    return {**node, "value": written} if isinstance(node, dict) else written


def _dumps(value: object) -> str:
    """JSON that is YAML as well, which takes fewer characters as they are. As pairs of surrogates, which JSON
    has for rare letters, it would take them for two."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(_NOT_YAML, lambda match: f"\\u{ord(match[0]):04x}", text)
