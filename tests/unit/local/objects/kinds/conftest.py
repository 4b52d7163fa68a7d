"""Objects on their way into the yard, as the API server's create and update take them."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from gpuyard.kube.objects import Manifest
from gpuyard.local.objects.kinds import schema
from gpuyard.local.objects.kinds.kind import CreateContext, FieldError, KindSpec

Create = Callable[..., tuple[Manifest, list[FieldError]]]
Update = Callable[[KindSpec, Manifest, Manifest], list[FieldError]]


def _create(
    spec: KindSpec, given: Manifest, context: CreateContext | None = None
) -> tuple[Manifest, list[FieldError]]:
    manifest, _ = schema.decode(schema.type_name(spec.resource), given)
    manifest.setdefault("metadata", {})
    spec.default(manifest)
    manifest["metadata"] |= {"uid": "uid-1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    spec.prepare_create(manifest, context or CreateContext())
    return manifest, spec.validate(manifest, None)


def _update(spec: KindSpec, old: Manifest, given: Manifest) -> list[FieldError]:
    manifest, _ = schema.decode(schema.type_name(spec.resource), copy.deepcopy(given))
    spec.default(manifest)
    spec.prepare_update(manifest, old)
    return spec.validate(manifest, old)


@pytest.fixture
def create() -> Create:
    """The manifest as it would be stored, and the broken rules."""
    return _create


@pytest.fixture
def update() -> Update:
    """The broken rules of replacing the second argument by the third."""
    return _update


@pytest.fixture
def pod() -> dict[str, Any]:
    """A pod that the yard takes."""
    return {
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {
            "runtimeClassName": "gpuyard-process",
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "gpuyard.io/host-process", "command": ["true"]}],
        },
    }


@pytest.fixture
def job(pod: dict[str, Any]) -> dict[str, Any]:
    """A Job that the yard takes."""
    return {
        "metadata": {"name": "j", "namespace": "default"},
        "spec": {"template": {"metadata": {"labels": {"app": "a"}}, "spec": pod["spec"]}},
    }
