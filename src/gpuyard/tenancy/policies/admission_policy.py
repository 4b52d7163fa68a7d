"""A ValidatingAdmissionPolicy with its binding.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/ (GA in
Kubernetes 1.30).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gpuyard.tenancy.names import LABELS

_API = "admissionregistration.k8s.io/v1"


def admission_policy(name: str, spec: dict[str, Any], match: dict[str, Any]) -> list[dict[str, Any]]:
    """A policy and its binding, which denies.

    Args:
        name: of both.
        spec: the policy's.
        match: what the binding's spec says besides: of which requests (`matchResources`) and objects
            (`paramRef`) the policy holds; empty for all.
    """
    metadata = {"name": name, "labels": dict(LABELS)}
    return [
        {"apiVersion": _API, "kind": "ValidatingAdmissionPolicy", "metadata": metadata, "spec": spec},
        {
            "apiVersion": _API,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {**metadata, "labels": dict(LABELS)},
            "spec": {"policyName": name, "validationActions": ["Deny"], **match},
        },
    ]


def resource_rule(group: str, resources: list[str], operations: list[str]) -> dict[str, Any]:
    """Requests that a policy looks at."""
    return {"apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": resources}


def cel_list(names: Iterable[str]) -> str:
    """Names as a list of CEL."""
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"
