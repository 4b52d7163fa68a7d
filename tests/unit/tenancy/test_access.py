"""From what an API server refuses to the role that would allow it."""

from __future__ import annotations

import shlex
from itertools import pairwise

import pytest

from gpuyard.tenancy.access import Action, Refusal, RefusedBy, binding_command, remedy_for, role_for
from gpuyard.tenancy.roles import PEOPLE

JOBS = Action("create", "batch", "jobs", "team")
NODES = Action("list", "", "nodes")
ANN = "ann"


@pytest.mark.parametrize(
    ("message", "user", "action"),
    [
        (
            'jobs.batch is forbidden: User "ann" cannot create resource "jobs" in API group "batch" in the '
            'namespace "team"',
            "ann",
            JOBS,
        ),
        (
            'nodes is forbidden: User "system:serviceaccount:a:b" cannot list resource "nodes" in API group '
            '"" at the cluster scope',
            "system:serviceaccount:a:b",
            NODES,
        ),
        (
            'pods "p" is forbidden: User "ann" cannot get resource "pods/log" in API group "" in the '
            'namespace "team": no relationship found between node "n" and this object',
            "ann",
            Action("get", "", "pods/log", "team"),
        ),
    ],
)
def test_refusals_are_read(message: str, user: str, action: Action) -> None:
    assert Refusal.of(message) == Refusal(RefusedBy.ROLES, user, action)


@pytest.mark.parametrize(
    ("message", "by", "remedy"),
    [
        (
            'pods "p" is forbidden: violates PodSecurity "restricted:latest": privileged',
            RefusedBy.SOMETHING_ELSE,
            "",
        ),
        (
            'jobs.batch "j" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: …',
            RefusedBy.QUOTA,
            "have the quota raised",
        ),
        (
            'jobs.batch "j" is forbidden: unable to create new content in namespace ml because it is being '
            "terminated",
            RefusedBy.ENDING_NAMESPACE,
            "--namespace",
        ),
        ("", RefusedBy.SOMETHING_ELSE, ""),
    ],
)
def test_what_roles_are_not_about(message: str, by: RefusedBy, remedy: str) -> None:
    assert Refusal.of(message) == Refusal(by)
    assert remedy in Refusal(by).remedy


def test_actions_in_words() -> None:
    assert str(JOBS) == "create jobs.batch in namespace team"
    assert str(NODES) == "list nodes"
    assert str(Action("list", "", "pods")) == "list pods in all namespaces"
    assert str(Action("get", "", "pods/log", "team")) == "get pods/log in namespace team"
    assert (
        str(Action("get", "scheduling.k8s.io", "priorityclasses")) == "get priorityclasses.scheduling.k8s.io"
    )


@pytest.mark.parametrize(
    ("actions", "role"),
    [
        ([NODES, Action("get", "", "pods/log", "team")], "gpuyard-viewer"),
        ([NODES], "gpuyard-nodes"),
        ([NODES, Action("list", "", "pods")], "gpuyard-capacity"),
        # In a namespace the narrow ones are of no use.
        ([Action("list", "", "pods", "team")], "gpuyard-viewer"),
        ([Action("get", "", "namespaces", "team")], "gpuyard-viewer"),
        ([JOBS], "gpuyard-submitter"),
        ([NODES, JOBS], "gpuyard-submitter"),
        ([Action("patch", "", "nodes")], "gpuyard-operator"),
        ([Action("get", "", "secrets", "team")], ""),
        ([JOBS, Action("get", "", "secrets", "team")], ""),
    ],
)
def test_the_least_role_is_named(actions: list[Action], role: str) -> None:
    assert role_for(actions) == role


def test_each_role_has_what_the_one_before_has() -> None:
    rights = [
        {(group, r, verb) for rule in make() for group in rule["apiGroups"] for r in rule["resources"]
         for verb in rule["verbs"]}
        for make in PEOPLE.values()
    ]  # fmt: skip
    assert all(less < more for less, more in pairwise(rights))


def test_counting_what_others_hold_reads_none_of_their_logs() -> None:
    rights = {resource for rule in PEOPLE["gpuyard-capacity"]() for resource in rule["resources"]}
    assert rights == {
        "nodes",
        "persistentvolumes",
        "storageclasses",
        "priorityclasses",
        "runtimeclasses",
        "pods",
    }


def test_how_a_role_is_given() -> None:
    assert binding_command("gpuyard-viewer", "Ann@example.com", "team") == (
        "kubectl create rolebinding gpuyard-viewer-ann-example-com --clusterrole=gpuyard-viewer "
        "--user=Ann@example.com --namespace=team"
    )
    assert binding_command("gpuyard-viewer", "system:serviceaccount:ci:bot", "") == (
        "kubectl create clusterrolebinding gpuyard-viewer-ci-bot --clusterrole=gpuyard-viewer "
        "--serviceaccount=ci:bot"
    )
    words = shlex.split(binding_command("gpuyard-viewer", "a b; rm", "team"))
    assert "--user=a b; rm" in words and "gpuyard-viewer-a-b-rm" in words


def test_remedies() -> None:
    assert remedy_for(ANN, [JOBS]).startswith(
        "gpuyard-submitter allows it; an administrator gives it: kubectl create rolebinding"
    )
    # What belongs to no namespace can't be given in one.
    assert "clusterrolebinding" in remedy_for(ANN, [JOBS, NODES])
    assert "none of gpuyard's roles allows to get secrets in namespace team" in remedy_for(
        ANN, [Action("get", "", "secrets", "team")]
    )
    assert "no credentials" in remedy_for("system:anonymous", [JOBS])


@pytest.mark.parametrize("resource", ["pods/exec", "pods/attach", "pods/portforward"])
def test_who_may_submit_may_look_into_what_runs(resource: str) -> None:
    # By WebSocket the API server asks for `get`, and from 1.35 on for `create` besides.
    wanted = [Action(verb, "", resource, "team") for verb in ("get", "create")]
    assert role_for(wanted) == "gpuyard-submitter"
