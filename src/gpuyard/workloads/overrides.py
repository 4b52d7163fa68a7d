"""Flags of `gpuyard run`: equal to the file's keys, and winning over them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpuyard.errors import Problem
from gpuyard.workloads.command import Run
from gpuyard.workloads.tree import Node, Path, UnreadableYaml

_TOLERATION = re.compile(r"(?P<key>[^=:]*)(?:=(?P<value>[^:]*))?(?::(?P<effect>\w+))?")


@dataclass(frozen=True)
class Overrides:
    """What the flags say; None and empty leave the file's word.

    Attributes:
        gpus, cpus, memory, shm, workdir, python, image, priority, retries: as typed.
        env: `K=V`, or `K` to take it from the caller's shell.
        node_selector: `KEY=VALUE`.
        image_pull_secrets: names of Secrets; added to the file's.
        tolerations: `KEY[=VALUE][:EFFECT]`, as kubectl writes taints; added to the file's.
        affinity: YAML or JSON, in the place of the file's.
        run: the words after the flags, or the script and its arguments.
    """

    name: str | None = None
    gpus: str | None = None
    cpus: str | None = None
    memory: str | None = None
    shm: str | None = None
    workdir: str | None = None
    env: tuple[str, ...] = ()
    run: Run | None = None
    python: str | None = None
    image: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    retries: str | int | None = None
    priority: str | None = None
    node_selector: tuple[str, ...] = ()
    tolerations: tuple[str, ...] = ()
    affinity: str | None = None


class FlagLayer:
    """Lays flags over a file's tree and remembers which flag each value came from.

    Attributes:
        flags: the flag by the path that it set.
        problems: flags that can't be read at all.
    """

    def __init__(self, root: dict[str, Node]) -> None:
        self.root = root
        self.flags: dict[Path, str] = {}
        self.problems: list[Problem] = []

    def lay(self, overrides: Overrides) -> None:
        """Applies all of them, in place."""
        for key in ("name", "workdir", "python", "image", "retries", "priority"):
            self._set((key,), getattr(overrides, key), f"--{key}")
        for key in ("gpus", "cpus", "memory", "shm"):
            self._set(("resources", key), getattr(overrides, key), f"--{key}")
        if overrides.run is not None:
            run: Node = overrides.run if isinstance(overrides.run, str) else list(overrides.run)
            self.root["run"] = run
            self.flags["run",] = "the command"
        for text in overrides.env:
            name, equals, value = text.partition("=")
            self._put(("env", name), value if equals else None, f"--env {name}")
        for text in overrides.node_selector:
            name, equals, value = text.partition("=")
            if not equals:
                self.problems.append(Problem("--node-selector", f"{text!r} has no value; write KEY=VALUE"))
            else:
                self._put(("node_selector", name), value, "--node-selector")
        for text in overrides.image_pull_secrets:
            self._append("image_pull_secrets", text, "--image-pull-secret")
        for text in overrides.tolerations:
            self._tolerate(text)
        if overrides.affinity is not None:
            self._set_affinity(overrides.affinity)

    def _set(self, path: Path, value: str | int | None, flag: str) -> None:
        if value is not None:
            self._put(path, str(value), flag)

    def _put(self, path: Path, value: str | None, flag: str) -> None:
        parent: dict[str, Node] = self.root
        for part in path[:-1]:
            child = parent.get(str(part))
            if child is None:
                child = parent[str(part)] = {}
            if not isinstance(child, dict):
                return  # The file has something else here, which the model reports.
            parent = child
        parent[str(path[-1])] = value
        self.flags[path] = flag

    def _set_affinity(self, text: str) -> None:
        # ruamel.yaml costs start-up time, and few say this.
        from gpuyard.workloads.yaml_tree import read_yaml

        try:
            self.root["affinity"] = read_yaml(text).root
        except UnreadableYaml as error:
            self.problems.append(Problem("--affinity", error.problem.message))
        self.flags["affinity",] = "--affinity"

    def _tolerate(self, text: str) -> None:
        match = _TOLERATION.fullmatch(text)
        if match is None or not match["key"]:
            example = "nvidia.com/gpu:NoSchedule or dedicated=ml:NoSchedule"
            self.problems.append(Problem("--toleration", f"{text!r} isn't one; write for example {example}"))
            return
        new: dict[str, Node] = {"key": match["key"], "operator": "Equal" if match["value"] else "Exists"}
        new |= {key: match[key] for key in ("value", "effect") if match[key]}
        self._append("tolerations", new, "--toleration")

    def _append(self, key: str, value: Node, flag: str) -> None:
        values = self.root.get(key)
        if values is None:
            values = self.root[key] = []
        if isinstance(values, list):  # Anything else is for the model to report.
            self.flags[key, len(values)] = flag
            values.append(value)
