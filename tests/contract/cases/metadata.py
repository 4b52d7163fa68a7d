"""Rules of names, labels, annotations, owners and finalizers."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import said


def name_with_capitals(api: Api) -> Any:
    """A name is a lower-case DNS subdomain."""
    return said(api.post("configmaps", api.object("configmaps", "Capital_name")))


def name_too_long(api: Api) -> Any:
    """A name has 253 characters at most."""
    return said(api.post("configmaps", api.object("configmaps", "x" * 254)))


def name_of_namespace(api: Api) -> Any:
    """A namespace's name is a DNS label."""
    return said(api.post("namespaces", api.object("namespaces", "with.dot")))


def name_of_job_too_long(api: Api) -> Any:
    """A Job's name must fit into a label of its pods."""
    return said(api.post("jobs", api.object("jobs", "x" * 64, spec=api.job_spec(suspend=True))))


def name_of_pod_with_dot(api: Api) -> Any:
    """A pod's name may have dots."""
    body = api.object("pods", "with.dot", spec=api.pod_spec(schedulerName="nobody"))
    return said(api.post("pods", body))


def label_key(api: Api) -> Any:
    """A label's key is a qualified name."""
    keys = ("with space", "a/b/c", "/x", "UPPER.example/x", "x" * 64)
    bodies = [api.object("configmaps", metadata={"labels": {key: "1"}}) for key in keys]
    return [said(api.post("configmaps", body)) for body in bodies]


def label_value(api: Api) -> Any:
    """A label's value has 63 characters of a small alphabet at most."""
    values = ("with space", "x" * 64, "-x")
    bodies = [api.object("configmaps", metadata={"labels": {"a": value}}) for value in values]
    return [said(api.post("configmaps", body)) for body in bodies]


def annotation_key(api: Api) -> Any:
    """An annotation's key is a qualified name."""
    return said(api.post("configmaps", api.object("configmaps", metadata={"annotations": {"a b": "1"}})))


def annotations_too_large(api: Api) -> Any:
    """Annotations have 256 KiB together at most."""
    annotations = {"a": "x" * (256 * 1024)}
    return said(api.post("configmaps", api.object("configmaps", metadata={"annotations": annotations})))


def owner_incomplete(api: Api) -> Any:
    """An owner reference needs apiVersion, kind, name and uid."""
    return said(api.post("configmaps", api.object("configmaps", metadata={"ownerReferences": [{}]})))


def two_controllers(api: Api) -> Any:
    """Only one owner may be the controller."""
    owners = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": name, "controller": True}
        for name in ("a", "b")
    ]
    return said(api.post("configmaps", api.object("configmaps", metadata={"ownerReferences": owners})))


def owner_is_an_event(api: Api) -> Any:
    """An Event can't own anything."""
    owners = [{"apiVersion": "v1", "kind": "Event", "name": "a", "uid": "a"}]
    return said(api.post("configmaps", api.object("configmaps", metadata={"ownerReferences": owners})))


def finalizer_without_domain(api: Api) -> Any:
    """A finalizer of one's own has a domain before it."""
    return said(api.post("configmaps", api.object("configmaps", metadata={"finalizers": ["mine"]})))


def finalizer_malformed(api: Api) -> Any:
    """A finalizer is a qualified name."""
    return said(api.post("configmaps", api.object("configmaps", metadata={"finalizers": ["a b"]})))


def finalizers_conflicting(api: Api) -> Any:
    """foregroundDeletion and orphan can't be together."""
    finalizers = ["foregroundDeletion", "orphan"]
    return said(api.post("configmaps", api.object("configmaps", metadata={"finalizers": finalizers})))
