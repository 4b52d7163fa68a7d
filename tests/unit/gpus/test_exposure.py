import pytest

from gpuyard.gpus.exposure import Exposure


@pytest.mark.parametrize("default_runtime", [None, True, False])
@pytest.mark.parametrize("variable", [None, True, False])
def test_an_annotation_keeps_what_is_known(default_runtime: bool | None, variable: bool | None) -> None:
    exposure = Exposure(default_runtime, variable)
    node = {"metadata": {"annotations": {"gpuyard.io/gpu-exposure": str(exposure)}}}
    assert Exposure.of(node) == exposure


@pytest.mark.parametrize("text", ["", "x", "=,=", "default-runtime=maybe", "variable", "yes=variable"])
def test_what_is_no_such_annotation_says_nothing(text: str) -> None:
    assert Exposure.of({"metadata": {"annotations": {"gpuyard.io/gpu-exposure": text}}}) == Exposure()
    assert Exposure.of({"metadata": {}}) == Exposure()


def test_what_one_does_not_know_another_may() -> None:
    assert Exposure(True, None).or_else(Exposure(False, False)) == Exposure(True, False)
