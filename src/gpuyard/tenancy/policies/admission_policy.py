"""An admission policy with its binding.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/ (GA in
Kubernetes 1.30).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from gpuyard.tenancy.names import LABELS

_API = "admissionregistration.k8s.io/v1"


class Policy(StrEnum):
    """What a policy does with requests: refuses some, or changes them."""

    VALIDATING = "ValidatingAdmissionPolicy"
    MUTATING = "MutatingAdmissionPolicy"


def admission_policy(
    name: str, spec: dict[str, Any], match: dict[str, Any], kind: Policy = Policy.VALIDATING
) -> list[dict[str, Any]]:
    """A policy and its binding.

    Args:
        name: of both.
        spec: the policy's.
        match: what the binding's spec says besides: of which requests (`matchResources`) and objects
            (`paramRef`) the policy holds; empty for all.
        kind: of policy.
    """
    metadata = {"name": name, "labels": dict(LABELS)}
    actions = {"validationActions": ["Deny"]} if kind is Policy.VALIDATING else {}
    return [
        {"apiVersion": _API, "kind": str(kind), "metadata": metadata, "spec": spec},
        {
            "apiVersion": _API,
            "kind": f"{kind}Binding",
            "metadata": {**metadata, "labels": dict(LABELS)},
            "spec": {"policyName": name, **actions, **match},
        },
    ]


def resource_rule(group: str, resources: list[str], operations: list[str]) -> dict[str, Any]:
    """Requests that a policy looks at."""
    return {"apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": resources}


def cel_list(names: Iterable[str]) -> str:
    """Names as a list of CEL."""
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"
