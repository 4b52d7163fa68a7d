"""Flags of `gpuyard run`, laid over a spec file's tree: they win over its keys.

A flag names the key that it sets, so that nothing here knows the keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from gpuyard.errors import Problem
from gpuyard.kube.nodes import parse_toleration
from gpuyard.workloads.spec.text_tree import Node, Path, UnreadableYaml


class FlagForm(Enum):
    """How the text of a flag is written, and what it does to the key."""

    #: The text takes the place of the file's.
    VALUE = auto()
    #: `KEY=VALUE` sets one entry of a mapping.
    ENTRY = auto()
    #: As ENTRY, and a second flag of the same key is a mistake.
    ENTRY_ONCE = auto()
    #: As ENTRY_ONCE, and the value is several with commas between them.
    ENTRY_LIST = auto()
    #: As ENTRY; `KEY` alone sets one without a value.
    ENTRY_OR_KEY = auto()
    #: The text is added to the file's list.
    ITEM = auto()
    #: `KEY[=VALUE][:EFFECT]`, as kubectl writes taints, is added to the file's list.
    TOLERATION = auto()
    #: YAML or JSON takes the place of the file's.
    YAML = auto()


#: What to do where the same key comes again.
_AGAIN = {
    FlagForm.ENTRY_ONCE: "say once what belongs there",
    FlagForm.ENTRY_LIST: "write all of its values at once, such as {flag} {key}=1,2",
}


@dataclass(frozen=True)
class Flag:
    """One flag as it was typed.

    Attributes:
        name: what the user knows it by, for messages.
        path: of the key.
        value: the text; of the command also its words. What isn't text takes the place of the file's.
        form: how the text is written.
        shape: of an entry, as the help has it.
    """

    name: str
    path: Path
    value: Node | tuple[str, ...]
    form: FlagForm = FlagForm.VALUE
    shape: str = field(default="KEY=VALUE", compare=False)


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

    def lay(self, flags: Iterable[Flag]) -> None:
        """Applies all of them in their order, in place."""
        for flag in flags:
            self._lay(flag)

    def _lay(self, flag: Flag) -> None:
        if not isinstance(flag.value, str):
            self._put(flag.path, list(flag.value) if isinstance(flag.value, tuple) else flag.value, flag.name)
            return
        match flag.form:
            case FlagForm.VALUE:
                self._put(flag.path, flag.value, flag.name)
            case FlagForm.ENTRY | FlagForm.ENTRY_ONCE | FlagForm.ENTRY_LIST | FlagForm.ENTRY_OR_KEY:
                self._enter(flag, flag.value)
            case FlagForm.ITEM:
                self._append(flag.path, flag.value, flag.name)
            case FlagForm.TOLERATION:
                self._tolerate(flag, flag.value)
            case FlagForm.YAML:
                self._put_yaml(flag, flag.value)

    def _enter(self, flag: Flag, text: str) -> None:
        key, equals, value = text.partition("=")
        lacking = "name" if not key else "value" if not equals else ""
        again = _AGAIN.get(flag.form) if (*flag.path, key) in self.flags else None
        if lacking and (not key or flag.form is not FlagForm.ENTRY_OR_KEY):
            self.problems.append(Problem(flag.name, f"{text!r} has no {lacking}; write {flag.shape}"))
        elif again:
            said = f"{key} is given twice; {again.format(flag=flag.name, key=key)}"
            self.problems.append(Problem(flag.name, said))
        else:
            self._put((*flag.path, key), value if equals else None, f"{flag.name} {key}")

    def _put(self, path: Path, value: Node, flag: str) -> None:
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

    def _put_yaml(self, flag: Flag, text: str) -> None:
        # ruamel.yaml costs start-up time, and few say this.
        from gpuyard.workloads.spec.yaml_tree import read_yaml

        try:
            self._put(flag.path, read_yaml(text).root, flag.name)
        except UnreadableYaml as error:
            self.problems.append(Problem(flag.name, error.problem.message))
            self.flags[flag.path] = flag.name

    def _tolerate(self, flag: Flag, text: str) -> None:
        found = parse_toleration(text)
        if found is None:
            example = "nvidia.com/gpu:NoSchedule or dedicated=ml:NoSchedule"
            self.problems.append(Problem(flag.name, f"{text!r} isn't one; write for example {example}"))
            return
        new: dict[str, Node] = {**found}
        self._append(flag.path, new, flag.name)

    def _append(self, path: Path, value: Node, flag: str) -> None:
        key = str(path[-1])
        values = self.root.get(key)
        if values is None:
            values = self.root[key] = []
        if isinstance(values, list):  # Anything else is for the model to report.
            self.flags[(*path, len(values))] = flag
            values.append(value)
