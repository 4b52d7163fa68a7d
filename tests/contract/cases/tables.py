"""Tables, as kubectl prints them, and other forms of answers."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import pick, said, without


def _columns(api: Api, path: str) -> list[Any]:
    found = api.table(path, limit=1)
    return [pick(column, "name", "type", "format", "priority") for column in found["columnDefinitions"]]


def columns_of_configmaps(api: Api) -> Any:
    """Columns of ConfigMaps."""
    return _columns(api, "configmaps")


def columns_of_events(api: Api) -> Any:
    """Columns of Events."""
    return _columns(api, "events")


def columns_of_jobs(api: Api) -> Any:
    """Columns of Jobs."""
    return _columns(api, "jobs")


def columns_of_leases(api: Api) -> Any:
    """Columns of Leases."""
    return _columns(api, "leases")


def columns_of_namespaces(api: Api) -> Any:
    """Columns of Namespaces."""
    return _columns(api, "namespaces")


def columns_of_nodes(api: Api) -> Any:
    """Columns of Nodes."""
    return _columns(api, "nodes")


def columns_of_pods(api: Api) -> Any:
    """Columns of Pods."""
    return _columns(api, "pods")


def columns_of_priority_classes(api: Api) -> Any:
    """Columns of PriorityClasses."""
    return _columns(api, "priorityclasses")


def columns_of_secrets(api: Api) -> Any:
    """Columns of Secrets."""
    return _columns(api, "secrets")


def columns_of_service_accounts(api: Api) -> Any:
    """Columns of ServiceAccounts."""
    return _columns(api, "serviceaccounts")


def _cells(table: Any, *columns: str) -> list[Any]:
    names = [column["name"] for column in table["columnDefinitions"]]
    return [[row["cells"][names.index(column)] for column in columns] for row in table["rows"]]


def cells_of_pod(api: Api) -> Any:
    """Cells of a pod that waits."""
    api.parked_pod()
    return _cells(
        api.table(f"pods/{api.name}"), "Name", "Ready", "Status", "Restarts", "IP", "Node", "Nominated Node"
    )


def cells_of_ended_pods(api: Api) -> Any:
    """Cells of pods that ended: the status says how."""
    for name, script in (("good", "exit 0"), ("bad", "exit 3")):
        api.pod(script, f"{api.name}-{name}")
    api.until_phase("Succeeded", f"{api.name}-good")
    api.until_phase("Failed", f"{api.name}-bad")
    return _cells(api.table("pods", labelSelector=f"case={api.name}"), "Name", "Ready", "Status", "Restarts")


def cells_of_job(api: Api) -> Any:
    """Cells of a suspended Job."""
    api.job(suspend=True, completions=3)
    api.until_condition(f"jobs/{api.name}", "Suspended")
    return _cells(api.table(f"jobs/{api.name}"), "Name", "Status", "Completions", "Duration", "Containers")


def cells_of_complete_job(api: Api) -> Any:
    """Cells of a Job that is complete."""
    api.job()
    api.until_condition(f"jobs/{api.name}", "Complete")
    return _cells(api.table(f"jobs/{api.name}"), "Status", "Completions")


def cells_of_event(api: Api) -> Any:
    """Cells of an Event."""
    involved = {"kind": "Pod", "namespace": api.namespace, "name": "p", "fieldPath": "spec.containers{main}"}
    source = {"component": "tester", "host": "here"}
    api.make(
        "events",
        involvedObject=involved,
        reason="Tested",
        type="Warning",
        message=" text \n",
        count=3,
        source=source,
    )
    found = api.table(f"events/{api.name}")
    return _cells(found, "Type", "Reason", "Object", "Subobject", "Source", "Message", "Count", "Name")


def cells_of_others(api: Api) -> Any:
    """Cells of a ConfigMap, a Secret, a Lease and a PriorityClass."""
    api.make("configmaps", data={"a": "1"}, binaryData={"b": "AA=="})
    api.make("secrets", stringData={"a": "1"})
    api.make("leases", spec={"holderIdentity": "me"})
    api.make("priorityclasses", f"{api.namespace}-{api.name}", value=7)
    return [
        _cells(api.table(f"configmaps/{api.name}"), "Name", "Data"),
        _cells(api.table(f"secrets/{api.name}"), "Type", "Data"),
        _cells(api.table(f"leases/{api.name}"), "Holder"),
        _cells(
            api.table(f"priorityclasses/{api.namespace}-{api.name}"),
            "Value",
            "Global-Default",
            "PreemptionPolicy",
        ),
        api.delete(f"priorityclasses/{api.namespace}-{api.name}").code,
    ]


def rows_carry_metadata(api: Api) -> Any:
    """A row carries its object's metadata, or what includeObject says."""
    api.make("configmaps", data={"a": "1"})
    found = {}
    for include in ("", "None", "Metadata", "Object"):
        row = api.table("configmaps", labelSelector=f"case={api.name}", includeObject=include)["rows"][0]
        found[include] = pick(row, "object.kind", "object.apiVersion", "object.data")
    return found


def include_object_unknown(api: Api) -> Any:
    """Another includeObject is refused."""
    api.make("configmaps")
    return pick(api.table("configmaps", includeObject="Some"), "code", "reason")


def table_itself(api: Api) -> Any:
    """A Table's own kind, version and metadata."""
    api.make("configmaps")
    found = api.table("configmaps", labelSelector=f"case={api.name}")
    return [found["kind"], found["apiVersion"], sorted(found["metadata"]), sorted(found["rows"][0])]


def table_in_pieces(api: Api) -> Any:
    """A Table comes in pieces, too."""
    for index in range(2):
        api.make("configmaps", f"{api.name}-{index}")
    found = api.table("configmaps", limit=1, labelSelector=f"case={api.name}")
    return [len(found["rows"]), bool(found["metadata"].get("continue"))]


def metadata_only(api: Api) -> Any:
    """An object can be had as its metadata only."""
    api.make("configmaps", data={"a": "1"})
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    found = api.send("GET", f"configmaps/{api.name}", headers={"Accept": accept}).body
    return [without(found, "metadata"), found["metadata"]["name"]]


def metadata_only_list(api: Api) -> Any:
    """So can a list."""
    api.make("configmaps", data={"a": "1"})
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    query = {"labelSelector": f"case={api.name}"}
    found = api.send("GET", "configmaps", query=query, headers={"Accept": accept}).body
    return [found["kind"], found["apiVersion"], [sorted(item) for item in found["items"]]]


def table_of_write(api: Api) -> Any:
    """A write answers a Table when asked for one."""
    headers = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    answer = api.send("POST", "configmaps", api.object("configmaps"), headers=headers)
    return [answer.code, answer.body["kind"], len(answer.body.get("rows", ()))]


def table_of_missing(api: Api) -> Any:
    """What isn't there is a Status, also when a Table was asked for."""
    headers = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    return said(api.send("GET", "configmaps/missing", headers=headers))
