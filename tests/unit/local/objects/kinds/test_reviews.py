"""What the yard's user is told that asks who it is and what it may do."""

from __future__ import annotations

from typing import Any

import pytest

from gpuyard.local.objects.kinds.kind import ServedApi
from gpuyard.local.objects.kinds.reviews import REVIEWS
from gpuyard.local.objects.kinds.served import yard_kinds

SERVED = ServedApi((*yard_kinds(), *REVIEWS), ("/", "/healthz", "/openapi/v3/apis/batch/v1", "/version"))
WHO, ACCESS, RULES = REVIEWS


def may(**spec: Any) -> tuple[bool, str]:
    assert ACCESS.review is not None
    status = ACCESS.review({"metadata": {}, "spec": spec}, SERVED)
    return status["allowed"], status["reason"]


@pytest.mark.parametrize(
    ("verb", "group", "resource", "subresource"),
    [
        ("create", "batch", "jobs", ""),
        ("watch", "", "pods", ""),
        ("get", "", "pods", "log"),
        ("create", "", "pods", "eviction"),
        ("*", "*", "*", ""),
        ("*", "*", "*", "*"),
        ("list", "*", "*", ""),
        ("get", "*", "pods", "*"),
        ("get", "", "*", "log"),
        ("create", "", "pods", "exec"),
        ("create", "authorization.k8s.io", "selfsubjectaccessreviews", ""),
    ],
)
def test_what_is_served_may_be_done(verb: str, group: str, resource: str, subresource: str) -> None:
    asked = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
    assert may(resourceAttributes={**asked, "namespace": "a"})[0]


@pytest.mark.parametrize("version", ["v1", "*", "", None])
def test_the_version_that_is_served(version: str | None) -> None:
    asked = {"verb": "create", "group": "batch", "resource": "jobs", "version": version}
    assert may(resourceAttributes=asked)[0]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"verb": "get", "group": "apps", "resource": "statefulsets"}, "serves no statefulsets.apps"),
        ({"verb": "create", "resource": "jobs"}, "serves no jobs"),
        ({"verb": "create", "resource": "pods", "subresource": "proxy"}, "serves no pods/proxy"),
        ({"verb": "create", "group": "batch", "resource": "jobs", "version": "v2"}, "batch of version v2"),
        ({"verb": "get", "resource": "pods", "subresource": "log", "version": "v2"}, "log of version v2"),
        ({"verb": "list", "resource": "pods", "subresource": "*"}, "the verb list of pods/*"),
        ({"verb": "list", "resource": "*", "subresource": "log"}, "the verb list of */log"),
        ({"verb": "get", "resource": "configmaps", "subresource": "*"}, "serves no configmaps/*"),
        ({"verb": "deletecollection", "resource": "namespaces"}, "the verb deletecollection of namespaces"),
        ({"verb": "impersonate", "resource": "serviceaccounts"}, "the verb impersonate of serviceaccounts"),
        ({"verb": "get", "group": "authentication.k8s.io", "resource": "selfsubjectreviews"}, "the verb get"),
        ({}, "serves no "),
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused_with_the_reason(asked: dict[str, str], why: str) -> None:
    allowed, reason = may(resourceAttributes=asked)
    assert not allowed and why in reason


@pytest.mark.parametrize(
    ("path", "verb", "allowed"),
    [
        ("/version", "get", True),
        ("/openapi/v3/apis/batch/v1", "get", True),
        ("/", "get", True),
        ("*", "*", True),
        ("/*", "get", True),
        ("/ver*", "get", True),
        ("/version*", "get", True),
        ("/openapi/v3/*", "get", True),
        ("/nothing*", "get", False),
        ("/version/*", "get", False),
        ("version*", "get", False),
        ("/openapi/v3/apis/autoscaling/v1", "get", False),
        ("", "get", False),
        ("/metrics", "get", False),
        ("/version", "post", False),
    ],
)
def test_documents_are_read(path: str, verb: str, allowed: bool) -> None:
    assert may(nonResourceAttributes={"path": path, "verb": verb})[0] is allowed


@pytest.mark.parametrize(
    ("review", "path"),
    [
        ({}, "spec.resourceAttributes"),
        ({"spec": {"resourceAttributes": {}, "nonResourceAttributes": {}}}, "spec.nonResourceAttributes"),
        ({"metadata": {"name": "a"}, "spec": {"resourceAttributes": {}}}, "metadata"),
    ],
)
def test_a_question_that_is_none(review: dict[str, Any], path: str) -> None:
    assert [error.path for error in ACCESS.validate({"metadata": {}, **review}, None)] == [path]


def test_the_rules_are_what_is_served() -> None:
    assert RULES.review is not None
    status = RULES.review({"metadata": {}, "spec": {"namespace": "a"}}, SERVED)
    for rule in status["resourceRules"]:
        for resource in rule["resources"]:
            plural, _, part = resource.partition("/")
            asked = {"group": rule["apiGroups"][0], "resource": plural, "subresource": part}
            assert all(may(resourceAttributes={"verb": verb, **asked})[0] for verb in rule["verbs"])
    assert not status["incomplete"]
    assert "/version" in status["nonResourceRules"][0]["nonResourceURLs"]
