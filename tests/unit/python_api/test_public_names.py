"""What `import gpuyard` gives, and what it costs: counted in modules, since times differ by machine."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import gpuyard
from gpuyard.python_api.asynchronous import AsyncRun, AsyncYard
from gpuyard.python_api.blocking import Run, Yard


def public(kind: type) -> dict[str, inspect.Signature | None]:
    return {
        name: inspect.signature(value) if inspect.isfunction(value) else None
        for name, value in vars(kind).items()
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("blocking", "asynchronous"), [(Yard, AsyncYard), (Run, AsyncRun)])
def test_both_have_the_same_names_and_arguments(blocking: type, asynchronous: type) -> None:
    ours, theirs = public(blocking), public(asynchronous)
    # A connection is closed by `async with`, and what it goes to is for what stands on it.
    assert ours.keys() - {"close"} == theirs.keys() - {"target"}
    for name in ours.keys() & theirs.keys():
        mine, other = ours[name], theirs[name]
        assert (mine is None) == (other is None)
        if mine and other:
            assert mine.parameters == other.parameters, name


def test_connecting_takes_the_same_arguments() -> None:
    assert (
        inspect.signature(gpuyard.connect).parameters == inspect.signature(gpuyard.connect_async).parameters
    )


def test_every_exported_name_is_there_and_documented() -> None:
    for name in gpuyard.__all__:
        value = getattr(gpuyard, name)
        assert name == "__version__" or value.__doc__
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        _ = gpuyard.conect


def test_the_import_brings_nothing_that_nobody_asked_for() -> None:
    code = "import sys; before = set(sys.modules); import gpuyard; print(sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    ours = eval(loaded)
    assert not [name for name in ours if name.startswith("gpuyard.")]
    assert not {"asyncio", "httpx", "pydantic", "click", "ssl", "json"} & set(ours)
