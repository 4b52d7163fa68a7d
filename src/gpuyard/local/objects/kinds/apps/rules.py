"""Rules that ReplicaSets and Deployments share.

Source: kubernetes `pkg/apis/apps/validation/validation.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.kube.selectors import Selector
from gpuyard.local.objects.kinds.fields import (
    check_not_negative,
    forbidden,
    invalid,
    invalid_object,
    required,
    unsupported,
)
from gpuyard.local.objects.kinds.kind import CreateContext, FieldError, KindSpec
from gpuyard.local.objects.kinds.pod_spec import validate_pod_template
from gpuyard.local.objects.kinds.selector_rules import validate_selector
from gpuyard.local.objects.kinds.yard_limits import no_images


def prepare_create(spec: KindSpec, manifest: Manifest, context: CreateContext) -> None:
    """Nothing has happened to it yet; a template that this yard can't run is refused before there are pods.

    Raises:
        Invalid: the template needs images, and the yard has no podman.
    """
    manifest["status"] = {}
    pod_spec = manifest["spec"]["template"]["spec"]
    if refused := no_images("spec.template.spec", pod_spec, context.no_images()):
        raise invalid_object(spec, manifest["metadata"].get("name", ""), refused)


def validate_replicated(spec: Mapping[str, Any]) -> list[FieldError]:
    """Replicas, selector and template."""
    found = check_not_negative("spec", spec, "replicas", "minReadySeconds")
    selector = spec.get("selector")
    if selector is None:
        found.append(required("spec.selector"))
        selector = {}
    else:
        found += (wrong := validate_selector("spec.selector", selector))
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            found.append(invalid("spec.selector", selector, "empty selector is invalid for deployment"))
        elif wrong:
            return [*found, invalid("spec.selector", selector, "invalid label selector")]
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not Selector.of(selector).matches(labels):
        detail = "`selector` does not match template `labels`"
        found.append(invalid("spec.template.metadata.labels", labels, detail))
    found += validate_pod_template("spec.template", template)
    pod_spec = template.get("spec") or {}
    if pod_spec.get("restartPolicy") != "Always":
        policy = pod_spec.get("restartPolicy", "")
        found.append(unsupported("spec.template.spec.restartPolicy", policy, ("Always",)))
    if pod_spec.get("activeDeadlineSeconds") is not None:
        detail = "activeDeadlineSeconds in ReplicaSet is not Supported"
        found.append(forbidden("spec.template.spec.activeDeadlineSeconds", detail))
    return found


def validate_counts(status: Mapping[str, Any], *names: str) -> list[FieldError]:
    """Numbers of pods in a status: not negative, and none above `status.replicas`."""
    found = check_not_negative(
        "status", status, "replicas", "observedGeneration", "terminatingReplicas", "collisionCount", *names
    )
    for name in names:
        if status.get(name, 0) > status.get("replicas", 0):
            found.append(invalid(f"status.{name}", status[name], "cannot be greater than status.replicas"))
    if status.get("availableReplicas", 0) > status.get("readyReplicas", 0):
        value = status["availableReplicas"]
        found.append(invalid("status.availableReplicas", value, "cannot be greater than readyReplicas"))
    return found
