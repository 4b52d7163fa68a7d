"""Admission: what an API server says when it refuses a run's pod, other than for quota.

Sources: kubernetes `plugin/pkg/admission/{serviceaccount,priority,runtimeclass}`,
`pod-security-admission/policy`, `apiserver/pkg/admission/plugin/{policy/validating,webhook}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gpuyard.advice import advice
from gpuyard.explain.causes import Cause
from gpuyard.explain.finding import By, Finding, Owner, Remedy, Step
from gpuyard.explain.missing_objects import nearest
from gpuyard.explain.run_objects import RunObjects
from gpuyard.explain.steps.quota import denial, find_quota

_LONGEST = 400


def find_admission(objects: RunObjects) -> Finding | None:
    """Why the server takes no pod of this run, if that is what it said."""
    said = denial(objects)
    if not said or find_quota(objects) is not None:
        return None
    for pattern, finding in _KNOWN:
        if match := pattern.search(said):
            return finding(objects, match)
    return Finding(
        Step.ADMISSION,
        Cause.REFUSED,
        f"the API server takes no pod of it: {_reason(said)}",
        evidence=(f"the server said: {said[:_LONGEST]}",),
    )


def _pod_security(objects: RunObjects, match: re.Match[str]) -> Finding:
    # One clause each: `privileged (container "main" must not set …), runAsNonRoot != true (…)`.
    broken = [clause.strip(" ,") for clause in re.findall(r"[^()]+\([^()]*\)", match["broken"])]
    return Finding(
        Step.ADMISSION,
        Cause.POD_SECURITY,
        f'namespace {objects.namespace} enforces Pod Security "{match["level"]}", and the pod breaks '
        f"{len(broken)} of its rules",
        Owner("Namespace", objects.namespace),
        tuple(broken),
        (
            Remedy("set what the parentheses say; what `gpuyard run` renders passes as it is"),
            Remedy(
                "lower the level",
                By.OPERATOR,
                f"kubectl label namespace {objects.namespace} --overwrite "
                "pod-security.kubernetes.io/enforce=baseline",
            ),
        ),
    )


def _policy(objects: RunObjects, match: re.Match[str]) -> Finding:
    return Finding(
        Step.ADMISSION,
        Cause.POLICY,
        f"policy {match['name']} denies its pod",
        Owner("ValidatingAdmissionPolicy", match["name"]),
        (f"it says: {match['message'][:_LONGEST]}",),
        (Remedy("change the run as the policy says"),),
    )


def _webhook(objects: RunObjects, match: re.Match[str]) -> Finding:
    return Finding(
        Step.ADMISSION,
        Cause.WEBHOOK,
        f"admission webhook {match['name']} denies its pod",
        evidence=(f"it says: {match['message'][:_LONGEST]}",),
        remedies=(Remedy("change the run as the webhook says"),),
    )


def _webhook_away(objects: RunObjects, match: re.Match[str]) -> Finding:
    # The message doesn't say which configuration has it.
    command = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations -o wide"
    return Finding(
        Step.ADMISSION,
        Cause.WEBHOOK_AWAY,
        f"admission webhook {match['name']} doesn't answer, and without it no pod is let in",
        evidence=(f"the server said: {match['message'][:_LONGEST]}",),
        remedies=(Remedy("mend the webhook's service", By.OPERATOR, command),),
    )


def _missing(kind: str, cause: Cause, usage: str) -> Callable[[RunObjects, re.Match[str]], Finding]:
    def finding(objects: RunObjects, match: re.Match[str]) -> Finding:
        name, known = match["name"], objects.names.get(kind, ())
        namespace = objects.namespace if kind == "ServiceAccount" else ""
        return Finding(
            Step.ADMISSION,
            cause,
            f"there is no {kind} {name}" + (f" in namespace {namespace}" if namespace else ""),
            Owner(kind, name, namespace),
            (f"there are: {', '.join(sorted(known))}",) if known else (),
            (Remedy(nearest(name, known, advice(usage))), Remedy(f"make the {kind} {name}", By.OPERATOR)),
        )

    return finding


def _ending(objects: RunObjects, match: re.Match[str]) -> Finding:
    return Finding(
        Step.ADMISSION,
        Cause.NAMESPACE_ENDING,
        f"namespace {objects.namespace} is being deleted",
        Owner("Namespace", objects.namespace),
        remedies=(Remedy("submit it to another namespace"),),
    )


def _invalid(objects: RunObjects, match: re.Match[str]) -> Finding:
    return Finding(
        Step.ADMISSION,
        Cause.INVALID,
        f"its pod breaks a rule of the API: {match['message'][:_LONGEST]}",
        remedies=(Remedy("mend that field of the Job's template"),),
    )


def _reason(said: str) -> str:
    return said.rpartition(" is forbidden: ")[2][:_LONGEST]


_KNOWN = (
    (re.compile(r'violates PodSecurity "(?P<level>[^":]+)[^"]*": (?P<broken>.*)'), _pod_security),
    (
        re.compile(
            r"ValidatingAdmissionPolicy '(?P<name>[^']+)' with binding '[^']+' "
            r"denied request: (?P<message>.*)"
        ),
        _policy,
    ),
    (re.compile(r'admission webhook "(?P<name>[^"]+)" denied the request:? ?(?P<message>.*)'), _webhook),
    (re.compile(r'failed calling webhook "(?P<name>[^"]+)": (?P<message>.*)'), _webhook_away),
    (
        re.compile(r'serviceaccount "(?P<name>[^"]+)" not found'),
        _missing("ServiceAccount", Cause.NO_SERVICE_ACCOUNT, "leave serviceAccountName out"),
    ),
    (
        re.compile(r"no PriorityClass with name (?P<name>\S+) was found"),
        _missing("PriorityClass", Cause.NO_PRIORITY_CLASS, "leave --priority out"),
    ),
    (
        re.compile(r'RuntimeClass "(?P<name>[^"]+)" not found'),
        _missing("RuntimeClass", Cause.NO_RUNTIME_CLASS, "leave runtimeClassName out"),
    ),
    (re.compile(r"because it is being terminated"), _ending),
    (re.compile(r"is invalid: (?P<message>.*)"), _invalid),
)
