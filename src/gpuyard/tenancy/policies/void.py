"""What tenants' containers without GPUs are given: a variable that keeps NVIDIA's runtime off them.

No policy sees an image's own NVIDIA_VISIBLE_DEVICES=all, nor that of a ConfigMap; the pod's own variable goes
before both. Source: https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/
(GA in Kubernetes 1.36).
"""

from __future__ import annotations

from typing import Any

from gpuyard.gpus.resources import MIG_PREFIX
from gpuyard.tenancy.names import TENANTS_VOID
from gpuyard.tenancy.policies.admission_policy import Policy, admission_policy, resource_rule
from gpuyard.tenancy.policies.tenants import NEW_EPHEMERAL, NOT_A_KUBELET, OF_TENANTS

_VARIABLE = "NVIDIA_VISIBLE_DEVICES"
#: Other device plugins (`nvidia.com/gpu.shared`, `nvidia.com/a100-gpu`) set the variable themselves.
_HAS_GPU = (
    f'c.?resources.?limits.orValue({{}}).exists(n, (n.contains("gpu") || n.startsWith("{MIG_PREFIX}"))'
    ' && quantity(string(c.resources.limits[n])).isGreaterThan(quantity("0")))'
)
_WANTING = f'.filter(c, !({_HAS_GPU}) && !c.?env.orValue([]).exists(e, e.name == "{_VARIABLE}"))'


def void_policy() -> list[dict[str, Any]]:
    """The policy and its binding."""
    spec = {
        "failurePolicy": "Fail",
        # A webhook may add containers.
        "reinvocationPolicy": "IfNeeded",
        "matchConstraints": {
            "resourceRules": [
                resource_rule("", ["pods"], ["CREATE"]),
                resource_rule("", ["pods/ephemeralcontainers"], ["UPDATE"]),
            ]
        },
        "matchConditions": [{"name": "not-a-kubelet", "expression": NOT_A_KUBELET}],
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
            for expression in (
                _given("containers", 'request.operation == "CREATE" ? object.spec.containers : []'),
                _given(
                    "initContainers",
                    'request.operation == "CREATE" ? object.spec.?initContainers.orValue([]) : []',
                ),
                _given("ephemeralContainers", f'request.operation == "CREATE" ? [] : {NEW_EPHEMERAL}'),
            )
        ],
    }
    return admission_policy(TENANTS_VOID, spec, OF_TENANTS, Policy.MUTATING)


def _given(field: str, containers: str) -> str:
    """Those of the containers that want it, with the variable."""
    kind = f"Object.spec.{field}"
    env = f'[{kind}.env{{name: "{_VARIABLE}", value: "void"}}]'
    each = f"({containers}){_WANTING}.map(c, {kind}{{name: c.name, env: {env}}})"
    return f"Object{{spec: Object.spec{{{field}: {each}}}}}"
