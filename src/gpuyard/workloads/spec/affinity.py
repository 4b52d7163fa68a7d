"""Tolerations and affinity of a spec, with Kubernetes' own keys; checked so that a slip shows before submit.

Source: core/v1 `Toleration` and `Affinity` of Kubernetes 1.34.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuyard.workloads.spec.schema import Fields, entries, items, not_empty, one_of, text, whole_number

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
#: Kubernetes counts them in 64 bits; more is a slip.
_MOST_SECONDS = 2**31 - 1


def _needed(*keys: str) -> dict[str, str]:
    return dict.fromkeys(keys, "this key is needed")


def _check_toleration(found: Mapping[str, Any]) -> None:
    operator = found.get("operator")
    if operator == "Exists" and found.get("value"):
        raise ValueError("has a value, which operator Exists doesn't look at; write Equal, or drop the value")
    if not found.get("key") and operator != "Exists":
        raise ValueError("has no key; write one, or operator: Exists to tolerate every taint")
    if "tolerationSeconds" in found and found.get("effect") != "NoExecute":
        raise ValueError("has tolerationSeconds, which only effect: NoExecute knows")


def _check_requirement(found: Mapping[str, Any]) -> None:
    operator, values = found["operator"], found.get("values")
    if operator in ("In", "NotIn") and not values:
        raise ValueError(f"has no values, and operator {operator} needs some")
    if operator in ("Exists", "DoesNotExist") and values:
        raise ValueError(f"has values, which operator {operator} doesn't look at; drop them")


def _check_node_requirement(found: Mapping[str, Any]) -> None:
    _check_requirement(found)
    operator, values = found["operator"], found.get("values")
    if operator in ("Gt", "Lt") and not (values and len(values) == 1 and values[0].lstrip("-").isdecimal()):
        raise ValueError(f"needs one whole number in values for operator {operator}")


_NAME = text(not_empty)
_TEXTS = items(text())
_WEIGHT = whole_number(1, 100)

#: A taint that the run may be placed in spite of.
TOLERATION = Fields(
    {
        "key": _NAME,
        "operator": one_of("Exists", "Equal"),
        "value": text(),
        "effect": one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
        "tolerationSeconds": whole_number(-_MOST_SECONDS, _MOST_SECONDS),
    },
    check=_check_toleration,
)
#: One clause over labels.
_REQUIREMENT = Fields(
    {"key": _NAME, "operator": one_of(*_OPERATORS), "values": _TEXTS},
    required=_needed("key", "operator"),
    check=_check_requirement,
)
#: One clause over a node's labels, which can be compared as numbers too.
_NODE_REQUIREMENT = Fields(
    {"key": _NAME, "operator": one_of(*_OPERATORS, "Gt", "Lt"), "values": _TEXTS},
    required=_needed("key", "operator"),
    check=_check_node_requirement,
)
#: Clauses that must all hold.
_NODE_TERM = Fields({"matchExpressions": items(_NODE_REQUIREMENT), "matchFields": items(_NODE_REQUIREMENT)})
_LABEL_SELECTOR = Fields({"matchLabels": entries(str, text()), "matchExpressions": items(_REQUIREMENT)})
#: Terms of which one must hold.
_NODE_SELECTOR = Fields(
    {"nodeSelectorTerms": items(_NODE_TERM, least=1)}, required=_needed("nodeSelectorTerms")
)
#: A term with what it is worth.
_PREFERRED_NODE = Fields(
    {"weight": _WEIGHT, "preference": _NODE_TERM}, required=_needed("weight", "preference")
)
#: Pods, and the label that says what counts as the same place.
_POD_TERM = Fields(
    {
        "topologyKey": _NAME,
        "labelSelector": _LABEL_SELECTOR,
        "namespaceSelector": _LABEL_SELECTOR,
        "namespaces": _TEXTS,
        "matchLabelKeys": _TEXTS,
        "mismatchLabelKeys": _TEXTS,
    },
    required=_needed("topologyKey"),
)
_PREFERRED_POD = Fields(
    {"weight": _WEIGHT, "podAffinityTerm": _POD_TERM}, required=_needed("weight", "podAffinityTerm")
)
#: Which pods a run must or should be near to, or away from.
_POD_AFFINITY = Fields({_REQUIRED: items(_POD_TERM), _PREFERRED: items(_PREFERRED_POD)})
#: Where a run must or should be placed.
AFFINITY = Fields(
    {
        "nodeAffinity": Fields({_REQUIRED: _NODE_SELECTOR, _PREFERRED: items(_PREFERRED_NODE)}),
        "podAffinity": _POD_AFFINITY,
        "podAntiAffinity": _POD_AFFINITY,
    }
)
