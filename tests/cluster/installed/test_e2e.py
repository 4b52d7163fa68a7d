"""The end-to-end tests that hold of a cluster as of a yard: all those that ask for `target`."""

from __future__ import annotations

import inspect
from types import ModuleType

from tests.e2e import (
    test_attach,
    test_copying,
    test_disruptions,
    test_elastic,
    test_environment,
    test_explain,
    test_forwarding,
    test_interactive,
    test_interrupt,
    test_listing,
    test_logs,
    test_run,
    test_services,
    test_several_pods,
    test_shell,
    test_stop_and_rm,
    test_sweep,
    test_time_to_save,
    test_volumes,
)
from tests.examples import test_multinode

_MODULES = (
    *(test_run, test_environment, test_logs, test_interrupt),
    *(test_stop_and_rm, test_listing, test_explain, test_disruptions, test_several_pods),
    *(test_sweep, test_time_to_save, test_volumes, test_interactive, test_copying, test_shell),
    *(test_elastic, test_forwarding, test_attach, test_multinode, test_services),
)


def _shared(module: ModuleType) -> dict[str, object]:
    return {
        name: test
        for name, test in vars(module).items()
        if name.startswith("test_") and "target" in inspect.signature(test).parameters
    }


for _module in _MODULES:
    _tests = _shared(_module)
    assert not _tests.keys() & globals().keys(), f"{_module.__name__} repeats a test's name"
    globals().update(_tests)
