"""JSON patch, merge patch, strategic merge patch and server-side apply."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import pick, said


def merge_sets_and_removes(api: Api) -> Any:
    """A merge patch sets values and removes those that are null."""
    api.make("configmaps", data={"a": "1", "b": "2"})
    return api.made(api.patch(f"configmaps/{api.name}", {"data": {"a": "3", "b": None, "c": "4"}}))["data"]


def merge_replaces_lists(api: Api) -> Any:
    """A merge patch replaces a whole list."""
    api.make("serviceaccounts", secrets=[{"name": "a"}, {"name": "b"}])
    return api.made(api.patch(f"serviceaccounts/{api.name}", {"secrets": [{"name": "c"}]}))["secrets"]


def merge_not_an_object(api: Api) -> Any:
    """A merge patch that is no object is refused."""
    api.make("configmaps")
    return pick(said(api.patch(f"configmaps/{api.name}", [1])), "code", "reason")


def merge_to_wrong_type(api: Api) -> Any:
    """A merge patch that leads to a wrong type is refused."""
    api.job(suspend=True)
    return pick(said(api.patch(f"jobs/{api.name}", {"spec": {"parallelism": "many"}})), "code", "reason")


def merge_to_invalid(api: Api) -> Any:
    """A merge patch that leads to a broken rule is refused."""
    api.job(suspend=True)
    return said(api.patch(f"jobs/{api.name}", {"spec": {"parallelism": -1}}))


def json_operations(api: Api) -> Any:
    """A JSON patch adds, replaces, removes, moves, copies and tests."""
    api.make("configmaps", data={"a": "1", "b": "2", "c": "3", "d": "4"})
    patch = [
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "x"},
        {"op": "add", "path": "/data/e", "value": "5"},
        {"op": "remove", "path": "/data/b"},
        {"op": "move", "from": "/data/c", "path": "/data/f"},
        {"op": "copy", "from": "/data/d", "path": "/data/g"},
        {"op": "add", "path": "/metadata/labels/a.b~1c", "value": "slash"},
    ]
    found = api.made(api.patch(f"configmaps/{api.name}", patch, "json"))
    return [found["data"], found["metadata"]["labels"]]


def json_into_list(api: Api) -> Any:
    """A JSON patch puts into a list by index, and at its end."""
    api.make("serviceaccounts", secrets=[{"name": "a"}, {"name": "b"}])
    patch = [
        {"op": "add", "path": "/secrets/1", "value": {"name": "between"}},
        {"op": "add", "path": "/secrets/-", "value": {"name": "end"}},
        {"op": "remove", "path": "/secrets/0"},
    ]
    return api.made(api.patch(f"serviceaccounts/{api.name}", patch, "json"))["secrets"]


def json_test_fails(api: Api) -> Any:
    """A JSON patch whose test fails changes nothing."""
    api.make("configmaps", data={"a": "1"})
    patch = [{"op": "test", "path": "/data/a", "value": "2"}, {"op": "remove", "path": "/data/a"}]
    answer = said(api.patch(f"configmaps/{api.name}", patch, "json"))
    return [answer, api.read(f"configmaps/{api.name}")["data"]]


def json_path_missing(api: Api) -> Any:
    """A JSON patch of a path that isn't there is refused."""
    api.make("configmaps")
    patch = [{"op": "remove", "path": "/data/x"}]
    return pick(said(api.patch(f"configmaps/{api.name}", patch, "json")), "code", "reason")


def json_operation_unknown(api: Api) -> Any:
    """A JSON patch with an unknown operation is refused."""
    api.make("configmaps")
    patch = [{"op": "grow", "path": "/data"}]
    return pick(said(api.patch(f"configmaps/{api.name}", patch, "json")), "code", "reason")


def json_not_a_list(api: Api) -> Any:
    """A JSON patch that is no list is refused."""
    api.make("configmaps")
    return pick(said(api.patch(f"configmaps/{api.name}", {"data": {}}, "json")), "code", "reason")


def strategic_merges_by_key(api: Api) -> Any:
    """A strategic merge patch merges lists by their key."""
    api.make("serviceaccounts", secrets=[{"name": "a"}, {"name": "b"}])
    patch = {"secrets": [{"name": "b"}, {"name": "c"}]}
    return api.made(api.patch(f"serviceaccounts/{api.name}", patch, "strategic-merge"))["secrets"]


def strategic_deletes(api: Api) -> Any:
    """$patch: delete removes an entry of a list."""
    api.make("serviceaccounts", secrets=[{"name": "a"}, {"name": "b"}])
    patch = {"secrets": [{"name": "a", "$patch": "delete"}]}
    return api.made(api.patch(f"serviceaccounts/{api.name}", patch, "strategic-merge"))["secrets"]


def strategic_replaces(api: Api) -> Any:
    """$patch: replace replaces a list."""
    api.make("serviceaccounts", secrets=[{"name": "a"}, {"name": "b"}])
    patch = {"secrets": [{"$patch": "replace"}, {"name": "c"}]}
    return api.made(api.patch(f"serviceaccounts/{api.name}", patch, "strategic-merge"))["secrets"]


def strategic_replaces_map(api: Api) -> Any:
    """$patch: replace replaces a map."""
    api.make("configmaps", data={"a": "1", "b": "2"})
    patch = {"data": {"$patch": "replace", "c": "3"}}
    return api.made(api.patch(f"configmaps/{api.name}", patch, "strategic-merge"))["data"]


def strategic_orders(api: Api) -> Any:
    """$setElementOrder orders a list."""
    api.make("serviceaccounts", secrets=[{"name": "a"}, {"name": "b"}, {"name": "c"}])
    patch = {
        "$setElementOrder/secrets": [{"name": "c"}, {"name": "a"}, {"name": "b"}],
        "secrets": [{"name": "c"}],
    }
    return _names_of(api.made(api.patch(f"serviceaccounts/{api.name}", patch, "strategic-merge"))["secrets"])


def strategic_finalizers(api: Api) -> Any:
    """Finalizers are merged, and taken out with $deleteFromPrimitiveList."""
    api.make("configmaps", metadata={"finalizers": ["example.com/a", "example.com/b"]})
    path = f"configmaps/{api.name}"
    more = api.made(api.patch(path, {"metadata": {"finalizers": ["example.com/c"]}}, "strategic-merge"))
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a", "example.com/b"]}}
    less = api.made(api.patch(path, patch, "strategic-merge"))
    api.made(api.patch(path, {"metadata": {"finalizers": None}}))
    return [pick(found, "metadata.finalizers") for found in (more, less)]


def strategic_conditions(api: Api) -> Any:
    """Conditions of a pod are merged by their type."""
    api.parked_pod()
    path = f"pods/{api.name}/status"
    for type_, state in (("One", "True"), ("Two", "False"), ("One", "False")):
        patch = {"status": {"conditions": [{"type": type_, "status": state}]}}
        found = api.made(api.patch(path, patch, "strategic-merge"))
    return [pick(entry, "type", "status") for entry in found["status"]["conditions"]]


def strategic_unknown_directive(api: Api) -> Any:
    """A $patch directive that isn't known is refused."""
    api.make("serviceaccounts", secrets=[{"name": "a"}])
    patch = {"secrets": [{"name": "a", "$patch": "explode"}]}
    answer = api.patch(f"serviceaccounts/{api.name}", patch, "strategic-merge")
    return pick(said(answer), "code", "reason")


def strategic_without_key(api: Api) -> Any:
    """An entry without the key of its list is refused."""
    api.make("serviceaccounts", secrets=[{"name": "a"}])
    patch = {"secrets": [{"namespace": "n"}]}
    answer = api.patch(f"serviceaccounts/{api.name}", patch, "strategic-merge")
    return pick(said(answer), "code", "reason")


def apply_creates(api: Api) -> Any:
    """Server-side apply creates what isn't there."""
    body = api.object("configmaps", data={"a": "1"})
    answer = api.patch(f"configmaps/{api.name}", body, "apply", fieldManager="me")
    return pick(said(answer), "code", "reason")


def patch_of_unknown_type(api: Api) -> Any:
    """A patch in a format that isn't known is 415."""
    api.make("configmaps")
    answer = api.send("PATCH", f"configmaps/{api.name}", {"data": {"a": "1"}})
    return pick(said(answer), "code", "reason")


def patch_stale(api: Api) -> Any:
    """A patch with an old resourceVersion is 409."""
    made = api.make("configmaps")
    api.made(api.patch(f"configmaps/{api.name}", {"data": {"a": "1"}}))
    version = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"a": "2"}}
    return said(api.patch(f"configmaps/{api.name}", version))


def patch_of_uid(api: Api) -> Any:
    """A patch that names another uid is 409."""
    api.make("configmaps")
    patch = {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}}
    return said(api.patch(f"configmaps/{api.name}", patch))


def patch_of_name(api: Api) -> Any:
    """A patch can't rename."""
    api.make("configmaps")
    return said(api.patch(f"configmaps/{api.name}", {"metadata": {"name": "other"}}))


def patch_that_changes_nothing(api: Api) -> Any:
    """A patch that changes nothing keeps the resourceVersion."""
    made = api.make("configmaps", data={"a": "1"})
    again = api.made(api.patch(f"configmaps/{api.name}", {"data": {"a": "1"}}))
    return again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def patch_of_unknown_field(api: Api) -> Any:
    """fieldValidation=Strict refuses a patch with an unknown field."""
    api.make("configmaps")
    answer = said(api.patch(f"configmaps/{api.name}", {"extra": 1}, fieldValidation="Strict"))
    return [pick(answer, "code", "reason", "causes"), answer["message"].rpartition("strict ")[2]]


def patch_of_status(api: Api) -> Any:
    """A patch of the status changes only that."""
    api.parked_pod()
    patch = {"status": {"message": "hello"}, "metadata": {"labels": {"new": "1"}}}
    found = api.made(api.patch(f"pods/{api.name}/status", patch))
    return pick(found, "status.message", "metadata.labels")


def patch_through_main_leaves_status(api: Api) -> Any:
    """A patch of the object leaves its status alone."""
    api.parked_pod()
    return pick(api.made(api.patch(f"pods/{api.name}", {"status": {"message": "hello"}})), "status.message")


def _names_of(entries: list[Any]) -> list[str]:
    return [entry["name"] for entry in entries]
