"""What kustomize renders of it is compared with an install in tests/cluster/test_deploy.py."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from gpuyard.tenancy.chart import COMPONENTS, kustomize


def _json(documents: Sequence[Any]) -> str:
    return json.dumps(documents)


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_patch_of_a_component_has_a_file_of_its_own(component: str) -> None:
    files = kustomize(_json)
    text = files[f"components/{component}/kustomization.yaml"]
    patches = [patch["path"] for patch in json.loads(text[text.index("[") :])[0].get("patches", ())]
    assert len(set(patches)) == len(patches)
    assert all(f"components/{component}/{path}" in files for path in patches)
