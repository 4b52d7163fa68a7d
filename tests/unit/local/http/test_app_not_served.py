from __future__ import annotations

import pytest

from gpuyard.local.http.app import not_served
from gpuyard.local.objects.kinds.served import yard_kinds

START = "the server could not find the requested resource"
KINDS = (
    "this gpuyard yard serves configmaps, deployments, endpointslices, events, "
    "horizontalpodautoscalers, jobs, leases, namespaces, nodes, persistentvolumeclaims, "
)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/v1/namespaces/default/pods/a/proxy", "this gpuyard yard serves no proxy of pods, but "),
        ("/api/v1/namespaces/d/configmaps/a/status", "serves no status of configmaps"),
        ("/apis/apps/v1/namespaces/default/statefulsets", KINDS),
        ("/apis/apps/v1/statefulsets/a/scale", KINDS),
        ("/api/v1/namespaces/default/endpoints", KINDS),
        ("/api", KINDS),
    ],
)
def test_it_names_the_yard_and_what_it_serves(path: str, said: str) -> None:
    assert not_served(path, yard_kinds()).startswith(START)
    assert said in not_served(path, yard_kinds())


def test_other_paths_get_kubernetes_own_words() -> None:
    assert not_served("/nonsense", yard_kinds()) == START
