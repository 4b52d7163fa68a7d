from __future__ import annotations

from gpuyard import errors
from gpuyard.images.transfer import first_error


def test_the_error_that_stopped_the_others_is_raised_alone() -> None:
    error = errors.BuildError("boom")
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [error]), errors.CacheError("later")])
    assert first_error(nested) is error
    mistake = ExceptionGroup("outer", [ValueError("a mistake of ours"), error])
    assert first_error(mistake) is mistake
