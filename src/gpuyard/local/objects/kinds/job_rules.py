"""Rules of Jobs, and what an update of one may change.

Source: kubernetes `pkg/apis/batch/validation`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gpuyard.kube.objects import Manifest
from gpuyard.kube.wellknown import LABEL_JOB_UID
from gpuyard.local.objects.kinds.fields import (
    check_at_most,
    check_immutable,
    check_key,
    check_not_negative,
    check_one_of,
    duplicate,
    invalid,
    invalid_here,
    required,
    too_long,
    unsupported,
)
from gpuyard.local.objects.kinds.kind import FieldError
from gpuyard.local.objects.kinds.pod_spec import validate_pod_template
from gpuyard.workloads.sweeps.completion_indexes import parse_indexes

_MODES = ("NonIndexed", "Indexed")
_RESTART_POLICIES = ("OnFailure", "Never")
_REPLACEMENT_POLICIES = ("Failed", "TerminatingOrFailed")
_MAX_PARALLELISM = 100_000
#: The yard's own bound: its controller keeps every index that has succeeded.
_MAX_INDEXES = 100_000
#: `0-2,5` of so many indexes has no more characters.
_MAX_INDEXES_BYTES = 700_000
_IMMUTABLE = (
    "selector", "completionMode", "manualSelector", "podReplacementPolicy", "podFailurePolicy",
    "successPolicy", "backoffLimitPerIndex", "managedBy",
)  # fmt: skip
#: Parts of the template that may change as long as no pod was made of it.
_SCHEDULING = ("nodeSelector", "tolerations", "affinity", "schedulingGates")
_INDEXES = r"(?a)[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?)*"
_MAX_RULES = 20
_MAX_PATTERNS = 20
_MAX_EXIT_CODES = 255
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_CONDITION_STATUSES = ("False", "True", "Unknown")


def validate_job(job: Manifest, old: Manifest | None) -> list[FieldError]:
    """Broken rules of a Job, against the one that it replaces when there is one."""
    spec = job.get("spec") or {}
    found = _validate_spec(spec) + _validate_status(job.get("status") or {})
    never = [name for name in ("podFailurePolicy", "backoffLimitPerIndex") if name in spec]
    found += _validate_template(spec.get("template") or {}, never=never)
    if old is None:
        return found + _validate_selector(job, spec)
    return found + _validate_update(spec, old.get("spec") or {}, old.get("status") or {})


def _validate_spec(spec: Mapping[str, Any]) -> list[FieldError]:
    found = check_not_negative(
        "spec", spec, "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit",
        "ttlSecondsAfterFinished", "backoffLimitPerIndex", "maxFailedIndexes",
    )  # fmt: skip
    mode = spec.get("completionMode", "")
    found += check_one_of("spec.completionMode", mode, _MODES)
    if mode == "Indexed":
        if "completions" not in spec:
            found.append(required("spec.completions", "when completion mode is Indexed"))
        elif spec["completions"] > _MAX_INDEXES:
            detail = f"this yard runs indexed jobs of at most {_MAX_INDEXES} completions"
            found.append(invalid("spec.completions", spec["completions"], detail))
        if spec.get("parallelism", 0) > _MAX_PARALLELISM:
            detail = f"must be less than or equal to {_MAX_PARALLELISM} when completion mode is Indexed"
            found.append(invalid("spec.parallelism", spec["parallelism"], detail))
    found += _validate_index_failures(spec)
    found += _validate_success_policy(spec)
    failures = spec.get("podFailurePolicy")
    if failures is not None:
        found += _validate_failure_policy(spec, failures.get("rules") or ())
    policy = spec.get("podReplacementPolicy", "")
    supported = _REPLACEMENT_POLICIES if failures is None else _REPLACEMENT_POLICIES[:1]
    found += check_one_of("spec.podReplacementPolicy", policy, supported)
    return found


def _validate_index_failures(spec: Mapping[str, Any]) -> list[FieldError]:
    limit, most = spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes")
    found = []
    if limit is not None and spec.get("completionMode") != "Indexed":
        found.append(invalid("spec.backoffLimitPerIndex", limit, "requires indexed completion mode"))
    if most is None:
        return found
    if limit is None:
        found.append(required("spec.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if most > spec.get("completions", most):
        detail = "must be less than or equal to completions"
        found.append(invalid("spec.maxFailedIndexes", most, detail))
    return found


def _validate_success_policy(spec: Mapping[str, Any]) -> list[FieldError]:
    path, policy = "spec.successPolicy", spec.get("successPolicy")
    if policy is None:
        return []
    if spec.get("completionMode") != "Indexed":
        return [invalid(path, policy, "requires indexed completion mode")]
    rules = policy.get("rules") or ()
    if not rules:
        return [
            required(f"{path}.rules", "at least one rule must be there when the successPolicy is specified")
        ]
    found = check_at_most(f"{path}.rules", rules, _MAX_RULES)
    for number, rule in enumerate(rules):
        found += _validate_success_rule(f"{path}.rules[{number}]", rule, int(spec.get("completions") or 0))
    return found


def _validate_success_rule(path: str, rule: Mapping[str, Any], completions: int) -> list[FieldError]:
    count, text = rule.get("succeededCount"), rule.get("succeededIndexes")
    if count is None and text is None:
        return [required(path, "at least one of succeededCount or succeededIndexes must be specified")]
    found, most = check_not_negative(path, rule, "succeededCount"), completions
    if text is not None:
        indexes = parse_indexes(text, completions)
        is_right = re.fullmatch(_INDEXES, text) and indexes == parse_indexes(text, _MAX_INDEXES)
        if not is_right:
            detail = f"must be indexes below {completions}, as in 0-2,5"
            found.append(invalid(f"{path}.succeededIndexes", text, detail))
        most = len(indexes)
    if count is not None and count > most:
        found.append(invalid(f"{path}.succeededCount", count, f"must be less than or equal to {most}"))
    return found


def _validate_failure_policy(spec: Mapping[str, Any], rules: Sequence[Mapping[str, Any]]) -> list[FieldError]:
    path, pod = "spec.podFailurePolicy.rules", (spec.get("template") or {}).get("spec") or {}
    names = {
        container.get("name", "")
        for kind in ("containers", "initContainers")
        for container in pod.get(kind) or ()
    }
    found = check_at_most(path, rules, _MAX_RULES)
    for number, rule in enumerate(rules):
        found += _validate_failure_rule(
            f"{path}[{number}]", rule, names, by_index="backoffLimitPerIndex" in spec
        )
    return found


def _validate_failure_rule(
    path: str, rule: Mapping[str, Any], names: Collection[str], *, by_index: bool
) -> list[FieldError]:
    action, codes = rule.get("action", ""), rule.get("onExitCodes")
    patterns = rule.get("onPodConditions") or ()
    found = _check_choice(f"{path}.action", action, _ACTIONS)
    if action == "FailIndex" and not by_index:
        found.append(invalid(f"{path}.action", action, "requires the backoffLimitPerIndex to be set"))
    if codes is not None:
        found += _validate_exit_codes(f"{path}.onExitCodes", codes, names)
    found += check_at_most(f"{path}.onPodConditions", patterns, _MAX_PATTERNS)
    for number, pattern in enumerate(patterns):
        place = f"{path}.onPodConditions[{number}]"
        found += check_key(f"{place}.type", pattern.get("type", ""))
        found += _check_choice(f"{place}.status", pattern.get("status", ""), _CONDITION_STATUSES)
    if codes is not None and patterns:
        detail = "specifying both OnExitCodes and OnPodConditions is not supported"
        found.append(invalid_here(path, detail))
    if codes is None and not patterns:
        found.append(invalid_here(path, "specifying one of OnExitCodes and OnPodConditions is required"))
    return found


def _validate_exit_codes(path: str, codes: Mapping[str, Any], names: Collection[str]) -> list[FieldError]:
    found = _check_choice(f"{path}.operator", codes.get("operator", ""), _OPERATORS)
    container, values = codes.get("containerName"), codes.get("values") or []
    if container is not None and container not in names:
        detail = "must be one of the container or initContainer names in the pod template"
        found.append(invalid(f"{path}.containerName", container, detail))
    if not values:
        found.append(invalid(f"{path}.values", values, "at least one value is required"))
    found += check_at_most(f"{path}.values", values, _MAX_EXIT_CODES)
    for number, value in enumerate(values):
        if value == 0 and codes.get("operator") == "In":
            detail = "must not be 0 for the In operator"
            found.append(invalid(f"{path}.values[{number}]", value, detail))
        if value in values[:number]:
            found.append(duplicate(f"{path}.values[{number}]", value))
    if list(values) != sorted(values):
        found.append(invalid(f"{path}.values", values, "must be ordered"))
    return found


def _check_choice(path: str, value: str, supported: Sequence[str]) -> list[FieldError]:
    """As `check_one_of`; when absent the error says what there is to choose from."""
    if not value:
        choice = " ".join(f'"{name}"' for name in supported)
        return [required(path, f"valid values: [{choice}]")]
    return check_one_of(path, value, supported)


def _validate_status(status: Mapping[str, Any]) -> list[FieldError]:
    return [
        too_long(f"status.{name}", _MAX_INDEXES_BYTES)
        for name in ("completedIndexes", "failedIndexes")
        if len(status.get(name) or "") > _MAX_INDEXES_BYTES
    ]


def _validate_template(template: Mapping[str, Any], *, never: Sequence[str]) -> list[FieldError]:
    """`never`: fields that are there with which pods are never started again in place."""
    path = "spec.template"
    found = validate_pod_template(path, template)
    policy = (template.get("spec") or {}).get("restartPolicy", "")
    if policy == "Always":
        # Nobody may have written it: it is the default of pods.
        found.append(required(f"{path}.spec.restartPolicy", 'valid values: "OnFailure", "Never"'))
    elif policy not in _RESTART_POLICIES:
        found.append(unsupported(f"{path}.spec.restartPolicy", policy, _RESTART_POLICIES))
    elif policy != "Never":
        for name in never:
            detail = f'only "Never" is supported when {name} is specified'
            found.append(invalid(f"{path}.spec.restartPolicy", policy, detail))
    return found


def _validate_selector(job: Manifest, spec: Mapping[str, Any]) -> list[FieldError]:
    selector = spec.get("selector")
    if not selector:
        return [required("spec.selector")]
    wanted = {LABEL_JOB_UID: job["metadata"].get("uid", "")}
    if not spec.get("manualSelector") and selector != {"matchLabels": wanted}:
        return [invalid("spec.selector", selector, "`selector` not auto-generated"), *_validate_match(spec)]
    name = job["metadata"].get("name", "")
    if spec.get("manualSelector") and len(name) > 63:
        # The name becomes a label of the pods, though not of the template.
        return [invalid("metadata.name", name, "must be no more than 63 characters")]
    return _validate_match(spec)


def _validate_match(spec: Mapping[str, Any]) -> list[FieldError]:
    wanted = ((spec.get("selector") or {}).get("matchLabels") or {}).items()
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if all(labels.get(key) == value for key, value in wanted):
        return []
    detail = "`selector` does not match template `labels`"
    return [invalid("spec.template.metadata.labels", labels, detail)]


def _validate_update(
    new: Mapping[str, Any], old: Mapping[str, Any], status: Mapping[str, Any]
) -> list[FieldError]:
    found = _validate_match(new) + check_immutable("spec", new, old, *_IMMUTABLE)
    found += _validate_completions(new, old)
    template, before = new.get("template") or {}, old.get("template") or {}
    if old.get("suspend") and not status.get("startTime"):
        template = _with_scheduling_of(before, template)
    return found + check_immutable("spec", {"template": template}, {"template": before}, "template")


def _validate_completions(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[FieldError]:
    """Fixed, but for an indexed Job whose parallelism follows."""
    if new.get("completions") == old.get("completions"):
        return []
    if new.get("completionMode") != "Indexed":
        return check_immutable("spec", new, old, "completions")
    if new.get("completions") is None or new["completions"] != new.get("parallelism"):
        detail = "can only be modified in tandem with spec.parallelism"
        return [invalid("spec.completions", new.get("completions"), detail)]
    return []


def _with_scheduling_of(source: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    """`template` with its scheduling directives as they are in `source`."""
    result = copy.deepcopy(dict(template))
    for part, fields in (("metadata", ("labels", "annotations")), ("spec", _SCHEDULING)):
        holder = result.setdefault(part, {})
        for field in fields:
            holder.pop(field, None)
            if field in (source.get(part) or {}):
                holder[field] = source[part][field]
    return result
