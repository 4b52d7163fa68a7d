"""Objects on their way into the yard, as the API server's create and update take them."""

import copy
from typing import Any

import pytest

from gpuyard.kube.objects import Manifest
from gpuyard.local.objects.kinds import schema
from gpuyard.local.objects.kinds.kind import CreateContext, FieldError, KindSpec


def create(
    spec: KindSpec, given: Manifest, context: CreateContext | None = None
) -> tuple[Manifest, list[FieldError]]:
    """The manifest as it would be stored, and the broken rules."""
    manifest, _ = schema.decode(schema.type_name(spec.resource), given)
    manifest.setdefault("metadata", {})
    spec.default(manifest)
    manifest["metadata"] |= {"uid": "uid-1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    spec.prepare_create(manifest, context or CreateContext())
    return manifest, spec.validate(manifest, None)


def update(spec: KindSpec, old: Manifest, given: Manifest) -> list[FieldError]:
    """The broken rules of replacing one manifest by another."""
    manifest, _ = schema.decode(schema.type_name(spec.resource), copy.deepcopy(given))
    spec.default(manifest)
    spec.prepare_update(manifest, old)
    return spec.validate(manifest, old)


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
