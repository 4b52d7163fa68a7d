"""Create, read, update, delete: what each answers, and what it refuses."""

from __future__ import annotations

from typing import Any

from tests.contract.api import Api
from tests.contract.observations import names, pick, said, without


def create(api: Api) -> Any:
    """A create answers 201 with the object, completed by the server."""
    answer = api.post("configmaps", api.object("configmaps", data={"a": "1"}))
    metadata = without(answer.body["metadata"], "managedFields", "resourceVersion")
    return [answer.code, without(answer.body, "metadata"), metadata]


def create_records_managed_fields(api: Api) -> Any:
    """An object carries metadata.managedFields, which say who wrote which field."""
    made = api.made(api.post("configmaps", api.object("configmaps"), fieldManager="me"))
    return [pick(entry, "manager", "operation") for entry in made["metadata"].get("managedFields", ())]


def create_taken(api: Api) -> Any:
    """A name that is taken is 409 AlreadyExists."""
    api.make("configmaps")
    return said(api.post("configmaps", api.object("configmaps")))


def create_without_name(api: Api) -> Any:
    """A create without name and generateName is refused."""
    return said(api.post("configmaps", {"metadata": {}}))


def create_without_kind(api: Api) -> Any:
    """apiVersion and kind may be left out: the path says them."""
    return said(api.post("configmaps", {"metadata": {"name": api.name}}))


def create_of_another_kind(api: Api) -> Any:
    """A body of another kind than the path's is refused."""
    answer = said(api.post("configmaps", api.object("secrets")))
    return {**answer, "message": answer["message"].partition(":")[0]}


def create_of_another_version(api: Api) -> Any:
    """A body of another apiVersion than the path's is refused."""
    answer = said(api.post("jobs", {**api.object("jobs"), "apiVersion": "batch/v2"}))
    return {**answer, "message": answer["message"].partition(":")[0]}


def create_in_another_namespace(api: Api) -> Any:
    """metadata.namespace must be the path's."""
    body = api.object("configmaps", metadata={"namespace": "default"})
    return said(api.post("configmaps", body))


def create_in_no_namespace(api: Api) -> Any:
    """A create in a namespace that isn't there is 404."""
    return said(api.post("/api/v1/namespaces/nowhere/configmaps", api.object("configmaps")))


def create_across_namespaces(api: Api) -> Any:
    """A namespaced kind can't be created on the path of all namespaces."""
    return said(api.post("/api/v1/configmaps", api.object("configmaps")))


def create_with_version(api: Api) -> Any:
    """A resourceVersion in a create is refused."""
    body = api.object("configmaps", metadata={"resourceVersion": "5"})
    return said(api.post("configmaps", body))


def create_with_server_fields(api: Api) -> Any:
    """uid, creationTimestamp, deletionTimestamp and selfLink of a create are the server's to set."""
    given = {
        "uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "selfLink": "x",
        "deletionTimestamp": "2001-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3,
    }  # fmt: skip
    metadata = api.make("leases", metadata=given)["metadata"]
    return {name: metadata.get(name) == value for name, value in given.items()}


def create_with_status(api: Api) -> Any:
    """The status in a create is dropped where it is a subresource."""
    spec = api.job_spec(suspend=True)
    body = api.object("jobs", spec=spec, status={"succeeded": 3})
    return pick(api.made(api.post("jobs", body)), "status.succeeded")


def generate_name(api: Api) -> Any:
    """generateName gets five characters behind it."""
    body = {"metadata": {"generateName": "model-"}}
    made = api.made(api.post("configmaps", body))
    name = made["metadata"]["name"]
    alphabet = set("bcdfghjklmnpqrstvwxz2456789")
    return [name[:6], len(name), set(name[6:]) <= alphabet, made["metadata"]["generateName"]]


def generate_name_long(api: Api) -> Any:
    """A long generateName is cut so that the name has 63 characters."""
    made = api.made(api.post("configmaps", {"metadata": {"generateName": "x" * 100}}))
    return len(made["metadata"]["name"])


def generate_name_beside_name(api: Api) -> Any:
    """With both, the name counts."""
    return pick(api.make("configmaps", metadata={"generateName": "other-"}), "metadata.name")


def body_not_json(api: Api) -> Any:
    """A body that isn't JSON is 400."""
    answer = said(api.send("POST", "configmaps", "{nonsense"))
    return without(answer, "message")


def body_empty(api: Api) -> Any:
    """A create without a body is 400."""
    return pick(said(api.send("POST", "configmaps", "")), "code", "reason")


def body_is_a_list(api: Api) -> Any:
    """A body that is no object is 400."""
    return pick(said(api.post("configmaps", [1])), "code", "reason")


def body_of_another_media_type(api: Api) -> Any:
    """A body in a format that isn't known is 415."""
    answer = api.send("POST", "configmaps", "x", headers={"Content-Type": "text/plain"})
    return pick(said(answer), "code", "reason")


def body_in_yaml(api: Api) -> Any:
    """A body may be YAML."""
    text = f"metadata:\n  name: {api.name}\ndata: {{a: b}}\n"
    answer = api.send("POST", "configmaps", text, headers={"Content-Type": "application/yaml"})
    return pick(said(answer), "code", "reason")


def body_too_large(api: Api) -> Any:
    """A body over 3 MiB is 413."""
    body = api.object("configmaps", data={"a": "x" * (3 * 1024 * 1024)})
    return said(api.post("configmaps", body))


def accept_unknown(api: Api) -> Any:
    """An Accept that can't be met is 406."""
    answer = api.send("GET", "configmaps", headers={"Accept": "image/png"})
    return pick(said(answer), "code", "reason")


def get_missing(api: Api) -> Any:
    """A name that isn't there is 404."""
    return said(api.get("jobs/missing"))


def update(api: Api) -> Any:
    """An update answers 200 with a new resourceVersion."""
    made = api.make("configmaps", data={"a": "1", "b": "2"})
    answer = api.put(f"configmaps/{api.name}", {**made, "data": {"a": "3"}})
    changed = answer.body["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    return [answer.code, answer.body["data"], changed]


def update_missing(api: Api) -> Any:
    """An update of what isn't there is 404."""
    return said(api.put("configmaps/missing", api.object("configmaps", "missing")))


def update_creates_lease(api: Api) -> Any:
    """A PUT of a Lease that isn't there creates it."""
    return said(api.put(f"leases/{api.name}", api.object("leases")))


def update_stale(api: Api) -> Any:
    """An update with an old resourceVersion is 409 Conflict."""
    made = api.make("configmaps")
    api.made(api.put(f"configmaps/{api.name}", {**made, "data": {"a": "1"}}))
    return said(api.put(f"configmaps/{api.name}", made))


def update_without_version(api: Api) -> Any:
    """An update without a resourceVersion overwrites."""
    api.make("configmaps")
    answer = api.put(f"configmaps/{api.name}", api.object("configmaps", data={"a": "1"}))
    return [answer.code, answer.body["data"]]


def update_of_job_without_version(api: Api) -> Any:
    """Also for a Job."""
    made = api.job(suspend=True)
    del made["metadata"]["resourceVersion"]
    return said(api.put(f"jobs/{api.name}", made))


def update_of_lease_without_version(api: Api) -> Any:
    """A Lease is only updated with its resourceVersion."""
    api.make("leases")
    return said(api.put(f"leases/{api.name}", api.object("leases")))


def update_under_another_name(api: Api) -> Any:
    """The body's name must be the path's."""
    api.make("configmaps")
    return said(api.put(f"configmaps/{api.name}", api.object("configmaps", "other")))


def update_of_another_uid(api: Api) -> Any:
    """A body with another uid means another object: 409."""
    made = api.make("configmaps")
    uid = "00000000-0000-0000-0000-000000000000"
    return said(api.put(f"configmaps/{api.name}", {**made, "metadata": {**made["metadata"], "uid": uid}}))


def update_that_changes_nothing(api: Api) -> Any:
    """An update that changes nothing keeps the resourceVersion."""
    made = api.make("configmaps", data={"a": "1"})
    again = api.made(api.put(f"configmaps/{api.name}", made))
    return again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def update_of_server_fields(api: Api) -> Any:
    """creationTimestamp and generation stay, whatever an update says."""
    api.job(suspend=True)
    made = api.until_condition(f"jobs/{api.name}", "Suspended")
    metadata = {**made["metadata"], "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 9}
    new = api.made(api.put(f"jobs/{api.name}", {**made, "metadata": metadata}))
    return [new["metadata"][name] == made["metadata"][name] for name in ("creationTimestamp", "generation")]


def update_of_status_through_main(api: Api) -> Any:
    """The status in an update of the object is ignored."""
    api.job(suspend=True)
    made = api.until_condition(f"jobs/{api.name}", "Suspended")
    new = api.made(api.put(f"jobs/{api.name}", {**made, "status": {"succeeded": 4}}))
    return pick(new, "status.succeeded")


def update_of_spec_through_status(api: Api) -> Any:
    """An update of the status leaves spec and labels alone."""
    made = api.parked_pod()
    labels = {**made["metadata"]["labels"], "new": "1"}
    changed = {
        **made,
        "metadata": {**made["metadata"], "labels": labels},
        "spec": {**made["spec"], "activeDeadlineSeconds": 5},
        "status": {**made["status"], "message": "hello"},
    }
    new = api.made(api.put(f"pods/{api.name}/status", changed))
    return pick(new, "spec.activeDeadlineSeconds", "metadata.labels", "status.message")


def generation_counts_the_spec(api: Api) -> Any:
    """generation rises with the spec, not with labels."""
    api.job(suspend=True)
    labelled = api.made(api.patch(f"jobs/{api.name}", {"metadata": {"labels": {"new": "1"}}}))
    changed = api.made(api.patch(f"jobs/{api.name}", {"spec": {"parallelism": 3}}))
    return [labelled["metadata"]["generation"], changed["metadata"]["generation"]]


def delete(api: Api) -> Any:
    """A delete of an object that nothing holds answers a Status."""
    api.make("configmaps")
    answer = api.delete(f"configmaps/{api.name}")
    return [answer.code, without(answer.body, "metadata"), said(api.get(f"configmaps/{api.name}"))]


def delete_missing(api: Api) -> Any:
    """A delete of what isn't there is 404."""
    return said(api.delete("configmaps/missing"))


def delete_other_uid(api: Api) -> Any:
    """A delete with another uid as its precondition is 409."""
    api.make("configmaps")
    uid = "00000000-0000-0000-0000-000000000000"
    return said(api.delete(f"configmaps/{api.name}", {"preconditions": {"uid": uid}}))


def delete_other_version(api: Api) -> Any:
    """A delete with an old resourceVersion as its precondition is 409."""
    made = api.make("configmaps")
    answer = said(api.delete(f"configmaps/{api.name}", {"preconditions": {"resourceVersion": "1"}}))
    version = made["metadata"]["resourceVersion"]
    return {**answer, "message": answer["message"].replace(version, "VERSION")}


def delete_collection(api: Api) -> Any:
    """A delete of a selection deletes that, and answers the list of it."""
    for name in ("gone-a", "gone-b", "kept"):
        api.make("configmaps", name, metadata={"labels": {"case": api.name, "kind": name[:4]}})
    answer = api.delete("configmaps", labelSelector=f"case={api.name},kind=gone")
    return [
        answer.code,
        answer.body["kind"],
        names(answer.body.get("items", ())),
        names(api.mine("configmaps")),
    ]


def wrong_method(api: Api) -> Any:
    """A method that a path doesn't have is 405."""
    return [said(api.post("configmaps/x", {})), said(api.put("configmaps", {}))]


def unknown_resource(api: Api) -> Any:
    """A resource that isn't served is 404."""
    return [
        said(api.get(path)) for path in ("/api/v1/nonsense", "/apis/batch/v1/nonsense", "/apis/no.io/v1/x")
    ]


def unknown_path(api: Api) -> Any:
    """A path that is nothing is 404."""
    return said(api.get("/nonsense"))["code"]


def unknown_subresource(api: Api) -> Any:
    """A subresource that isn't there is 404."""
    api.make("configmaps")
    return said(api.get(f"configmaps/{api.name}/status"))


def dry_run_create(api: Api) -> Any:
    """A create with dryRun=All answers as if it had been, and stores nothing."""
    answer = api.post("jobs", api.object("jobs", spec=api.job_spec()), dryRun="All")
    picked = pick(answer.body, "metadata.resourceVersion", "spec.backoffLimit")
    return [answer.code, bool(answer.body["metadata"].get("uid")), picked, said(api.get(f"jobs/{api.name}"))]


def dry_run_create_taken(api: Api) -> Any:
    """A dry run finds that a name is taken."""
    api.make("configmaps")
    return said(api.post("configmaps", api.object("configmaps"), dryRun="All"))


def dry_run_update(api: Api) -> Any:
    """A patch with dryRun=All changes nothing."""
    api.make("configmaps", data={"a": "1"})
    answer = api.patch(f"configmaps/{api.name}", {"data": {"a": "2"}}, dryRun="All")
    return [answer.body["data"], api.read(f"configmaps/{api.name}")["data"]]


def dry_run_delete(api: Api) -> Any:
    """A delete with dryRun=All deletes nothing."""
    api.make("configmaps")
    return [api.delete(f"configmaps/{api.name}", dryRun="All").code, api.get(f"configmaps/{api.name}").code]


def dry_run_unknown(api: Api) -> Any:
    """Another value of dryRun is refused."""
    return said(api.post("configmaps", api.object("configmaps"), dryRun="some"))


def field_validation_strict(api: Api) -> Any:
    """fieldValidation=Strict refuses unknown fields, and names all of them."""
    body = api.object("jobs", spec={**api.job_spec(), "paralelism": 2}, extra=1)
    return said(api.post("jobs", body, fieldValidation="Strict"))


def field_validation_duplicate(api: Api) -> Any:
    """fieldValidation=Strict refuses a field that is there twice."""
    text = '{"metadata": {"name": "twice"}, "data": {"a": "1"}, "data": {"b": "2"}}'
    return said(api.send("POST", "configmaps", text, query={"fieldValidation": "Strict"}))


def field_validation_warn(api: Api) -> Any:
    """fieldValidation=Warn drops unknown fields with a warning."""
    answer = api.post("configmaps", api.object("configmaps", extra=1), fieldValidation="Warn")
    return [answer.code, answer.warnings, "extra" in answer.body]


def field_validation_by_default(api: Api) -> Any:
    """Without fieldValidation unknown fields get a warning."""
    answer = api.post("configmaps", api.object("configmaps", extra=1))
    return [answer.code, answer.warnings]


def field_validation_ignore(api: Api) -> Any:
    """fieldValidation=Ignore drops unknown fields silently."""
    answer = api.post("configmaps", api.object("configmaps", extra=1), fieldValidation="Ignore")
    return [answer.code, answer.warnings, "extra" in answer.body]


def field_validation_unknown(api: Api) -> Any:
    """Another value of fieldValidation is refused."""
    return said(api.post("configmaps", api.object("configmaps"), fieldValidation="Maybe"))


def wrong_type(api: Api) -> Any:
    """A value of the wrong type is 400."""
    answers = [
        api.post("configmaps", api.object("configmaps", data={"a": 1})),
        api.post("jobs", api.object("jobs", spec={**api.job_spec(), "completions": "two"})),
        api.post("configmaps", api.object("configmaps", data="text")),
    ]
    return [pick(said(answer), "code", "reason") for answer in answers]


def null_is_absent(api: Api) -> Any:
    """A field that is null is as if it weren't there."""
    made = api.make("configmaps", data=None, metadata={"annotations": None})
    return pick(made, "data", "metadata.annotations")


def put_patch_of_missing_object(api: Api) -> Any:
    """A patch of what isn't there is 404."""
    return said(api.patch("configmaps/missing", {"data": {}}))
