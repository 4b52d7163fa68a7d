"""Watches: order, selectors, bookmarks, where they begin and how they end."""

from __future__ import annotations

import json
from typing import Any

from tests.contract.api import Api
from tests.contract.observations import pick, said, seen

_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def _version(api: Api) -> str:
    return str(api.read("configmaps")["metadata"]["resourceVersion"])


def changes_in_order(api: Api) -> Any:
    """A watch from a resourceVersion has every change after it, in order, with the object as it then was."""
    after = _version(api)
    made = api.make("configmaps", data={"n": "0"})
    for value in ("1", "2"):
        api.made(api.patch(f"configmaps/{api.name}", {"data": {"n": value}}))
    api.delete(f"configmaps/{api.name}")
    again = api.make("configmaps")
    query: dict[str, Any] = {"resourceVersion": after, "labelSelector": f"case={api.name}"}
    events = api.watch("configmaps", 5, **query)
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    order = versions == sorted(set(versions)) and versions[0] == int(made["metadata"]["resourceVersion"])
    same = [pick(event["object"], "metadata.uid") == made["metadata"]["uid"] for event in events]
    assert versions[-1] == int(again["metadata"]["resourceVersion"])
    return [seen(events), [pick(event["object"], "data.n") for event in events], order, same]


def begins_with_what_is_there(api: Api) -> Any:
    """A watch without a resourceVersion begins with what is there, as ADDED."""
    for name in ("a", "b"):
        api.make("configmaps", f"{api.name}-{name}")
    return seen(api.watch("configmaps", 2, labelSelector=f"case={api.name}"))


def begins_with_what_is_there_for_zero(api: Api) -> Any:
    """So does one from resourceVersion=0."""
    api.make("configmaps")
    return seen(api.watch("configmaps", 1, labelSelector=f"case={api.name}", resourceVersion="0"))


def selection_is_left_and_entered(api: Api) -> Any:
    """An object that leaves the selection is DELETED, one that enters it ADDED."""
    after = _version(api)
    api.make("configmaps", metadata={"labels": {"case": api.name, "on": "1"}})
    path = f"configmaps/{api.name}"
    api.made(api.patch(path, {"metadata": {"labels": {"on": None}}}))
    api.made(api.patch(path, {"data": {"unseen": "1"}}))
    api.made(api.patch(path, {"metadata": {"labels": {"on": "1"}}}))
    events = api.watch("configmaps", 3, resourceVersion=after, labelSelector=f"case={api.name},on")
    # The one that left is shown as it last was in the selection.
    return [seen(events), [pick(event["object"], "metadata.labels.on") for event in events]]


def fields_select(api: Api) -> Any:
    """A watch can be of one name."""
    after = _version(api)
    for name in ("other", "wanted"):
        api.make("configmaps", f"{api.name}-{name}")
    return seen(
        api.watch("configmaps", 1, resourceVersion=after, fieldSelector=f"metadata.name={api.name}-wanted")
    )


def phase_selects(api: Api) -> Any:
    """A pod that enters a phase is ADDED to the watch of that phase."""
    after = _version(api)
    api.parked_pod()
    api.made(api.patch(f"pods/{api.name}/status", {"status": {"phase": "Failed"}}))
    query: dict[str, Any] = {"fieldSelector": "status.phase=Failed", "labelSelector": f"case={api.name}"}
    return seen(api.watch("pods", 1, resourceVersion=after, **query))


def of_one_object(api: Api) -> Any:
    """watch=true on an object's path: a cluster answers the object."""
    api.make("configmaps")
    answer = api.get(f"configmaps/{api.name}", watch="true", timeoutSeconds=1)
    return pick(answer.body, "type", "kind")


def of_all_namespaces(api: Api) -> Any:
    """A watch without a namespace has the changes of all."""
    after = _version(api)
    api.make("configmaps")
    events = api.watch("/api/v1/configmaps", 1, resourceVersion=after, labelSelector=f"case={api.name}")
    return [pick(event["object"], "metadata.namespace") for event in events]


def ends_after_its_timeout(api: Api) -> Any:
    """A watch ends after timeoutSeconds, without an error."""
    return api.watch("configmaps", resourceVersion=_version(api), timeoutSeconds=1, labelSelector="no=one")


def bookmark_before_the_end(api: Api) -> Any:
    """With allowWatchBookmarks there is a bookmark before a watch's timeout."""
    after = _version(api)
    query: dict[str, Any] = {
        "resourceVersion": after,
        "allowWatchBookmarks": "true",
        "labelSelector": "no=one",
    }
    events = api.watch("configmaps", timeoutSeconds=3, **query)
    bookmarks = [event["object"] for event in events if event["type"] == "BOOKMARK"]
    assert all(int(mark["metadata"]["resourceVersion"]) >= int(after) for mark in bookmarks)
    return [bool(bookmarks), [[mark["kind"], mark["apiVersion"]] for mark in bookmarks[:1]]]


def no_bookmark_unasked(api: Api) -> Any:
    """Without allowWatchBookmarks there is none."""
    return api.watch("configmaps", resourceVersion=_version(api), timeoutSeconds=3, labelSelector="no=one")


def too_old(api: Api) -> Any:
    """A watch from before the history is one ERROR event, 410 Expired, which has clients list anew."""
    (event,) = api.watch(api.young, resourceVersion="1", timeoutSeconds=1)
    found = pick(event, "type", "object.code", "object.reason", "object.message")
    return {**found, "object.message": str(found["object.message"]).partition(" (")[0]}


def malformed_version(api: Api) -> Any:
    """A watch from a resourceVersion that is no number is refused."""
    return pick(said(api.get("configmaps", watch="true", resourceVersion="new")), "code", "reason")


def version_match_without_initial_events(api: Api) -> Any:
    """resourceVersionMatch is refused for a watch without sendInitialEvents."""
    query: dict[str, Any] = {"watch": "true", "resourceVersion": "0", "resourceVersionMatch": "NotOlderThan"}
    return said(api.get("configmaps", **query))


def as_table(api: Api) -> Any:
    """A watch as Table describes its columns in the first event only."""
    after = _version(api)
    for name in ("a", "b"):
        api.make("configmaps", f"{api.name}-{name}")
    url = f"configmaps?watch=true&resourceVersion={after}&timeoutSeconds=2&labelSelector=case={api.name}"
    text = api.send("GET", url, headers={"Accept": _TABLE}).body
    tables = [json.loads(line)["object"] for line in text.splitlines()]
    return [[table["kind"], bool(table["columnDefinitions"]), len(table["rows"])] for table in tables]


def of_missing_namespace(api: Api) -> Any:
    """A watch in a namespace that isn't there is empty."""
    return api.watch("/api/v1/namespaces/nowhere/configmaps", timeoutSeconds=1)


def malformed_selector(api: Api) -> Any:
    """A watch with a selector that can't be read is refused."""
    return pick(said(api.get("configmaps", watch="true", labelSelector="a in")), "code", "reason")
