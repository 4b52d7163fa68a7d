"""The cases, and how they are run.

A case is a function from an `Api` to an observation: JSON that says how the server behaved. What the real
kube-apiserver does is recorded (`recorded/kubernetes.json`), and the yard is held to it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract import cases as cases_package
from tests.contract.api import Api, Target
from tests.contract.observations import settled

#: Many wait for a pod or a controller most of their time.
_AT_ONCE = 6


@dataclass(frozen=True)
class Case:
    """One behaviour: `area` is the module that it is in, `title` its docstring."""

    area: str
    name: str
    title: str
    observe: Callable[[Api], Any]

    @property
    def id(self) -> str:
        """Stable: the recorded observations are found by it."""
        return f"{self.area}.{self.name}"

    def run(self, target: Target) -> Any:
        """What the server does today."""
        observation = self.observe(Api(target, self.name.replace("_", "-")))
        return settled(observation, target.namespace, target.image)


def load_cases() -> dict[str, Case]:
    """Every public function of the modules in `cases/`, in their order."""
    found: dict[str, Case] = {}
    for module_info in pkgutil.iter_modules(cases_package.__path__):
        module = importlib.import_module(f"{cases_package.__name__}.{module_info.name}")
        for name, value in vars(module).items():
            if callable(value) and getattr(value, "__module__", "") == module.__name__ and name[0] != "_":
                title = (value.__doc__ or "").strip()
                assert title, f"case {name} has no docstring"
                case = Case(module_info.name, name, title, value)
                found[case.id] = case
    return found


def run_cases(cases: Sequence[Case], target: Target) -> dict[str, Any]:
    """Observations by case; for a case that couldn't be carried through, its exception."""

    def observe(case: Case) -> Any:
        try:
            return case.run(target)
        except Exception as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip([case.id for case in cases], pool.map(observe, cases), strict=True))


def asked_for(request: pytest.FixtureRequest) -> list[str]:
    """Ids of the cases that a session's tests of one module are about; `-k` may leave some out."""
    return [
        item.callspec.id
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module and hasattr(item, "callspec")
    ]
