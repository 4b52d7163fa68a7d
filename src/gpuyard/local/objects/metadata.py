"""`metadata`: what the server fills in, what a client may change, and the rules that all kinds share.

Sources: apiserver `pkg/registry/rest/{create,update,meta}.go`,
apimachinery `pkg/api/validation/objectmeta.go`.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gpuyard import errors
from gpuyard.kube.names import random_suffix
from gpuyard.kube.objects import Manifest, ObjectKey, Resource
from gpuyard.kube.timestamps import format_time
from gpuyard.local.objects.kinds.fields import (
    check_key,
    check_label_name,
    check_labels,
    check_subdomain_name,
    forbidden,
    invalid,
    required,
    too_long,
)
from gpuyard.local.objects.kinds.kind import FieldError, KindSpec

#: Kubernetes cuts the prefix so that prefix and suffix make a label of 63 characters.
_MAX_PREFIX = 58
_MAX_ANNOTATIONS_BYTES = 256 * 1024

#: Set by the server alone; a client's value is replaced by the stored one.
_SERVER_OWNED = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
_OMITTED_EMPTY = ("labels", "annotations", "finalizers", "ownerReferences", "generateName")
_STANDARD_FINALIZERS = ("orphan", "foregroundDeletion", "kubernetes")
_NEVER_KEPT = ("managedFields", "selfLink")


def check_kind(resource: Resource, given: object) -> None:
    """That a body's apiVersion and kind, where it has them, are those of its URL.

    Raises:
        BadRequest: they are not.
    """
    if not isinstance(given, Mapping):
        raise errors.BadRequest(f"the body must be a JSON object of kind {resource.kind}")
    for field in ("apiVersion", "kind"):
        if not isinstance(given.get(field) or "", str):
            raise errors.BadRequest(
                f"couldn't get version/kind; json parse error: {field} must be text, as in "
                f'"apiVersion":"{resource.api_version}","kind":"{resource.kind}"'
            )
    api_version = given.get("apiVersion") or resource.api_version
    kind = given.get("kind") or resource.kind
    if api_version != resource.api_version:
        raise errors.BadRequest(
            f'{kind} in version "{api_version.rpartition("/")[2]}" cannot be handled as a '
            f"{resource.kind}: the path is of version {resource.api_version}"
        )
    if kind != resource.kind:
        raise errors.BadRequest(
            f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
        )


def check_names(spec: KindSpec, manifest: Manifest, key: ObjectKey) -> None:
    """That namespace and name of a body are those of its URL; fills in the namespace, drops empty fields.

    Raises:
        BadRequest: one of them differs. An empty `key.name` leaves the body's name unchecked.
    """
    metadata = manifest["metadata"]
    for field in _OMITTED_EMPTY:
        if not metadata.get(field, True):
            del metadata[field]
    if not spec.resource.namespaced:
        metadata.pop("namespace", None)
    elif (metadata.get("namespace") or key.namespace) != key.namespace:
        raise errors.BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request "
            f"({metadata['namespace']} and {key.namespace})"
        )
    else:
        metadata["namespace"] = key.namespace
    if key.name and (metadata.get("name") or key.name) != key.name:
        raise errors.BadRequest(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({key.name})"
        )


def complete_new(spec: KindSpec, manifest: Manifest, now: datetime, rng: random.Random) -> None:
    """Fills in what the server decides about a new object; the name comes from generateName when absent."""
    metadata = manifest["metadata"]
    for field in (*_SERVER_OWNED, *_NEVER_KEPT, "resourceVersion"):
        metadata.pop(field, None)
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = generated_name(metadata["generateName"], rng)
    metadata["uid"] = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    metadata["creationTimestamp"] = format_time(now)
    if spec.has_generation:
        metadata["generation"] = 1


def generated_name(prefix: str, rng: random.Random) -> str:
    """The prefix with five random characters."""
    return prefix[:_MAX_PREFIX] + random_suffix(rng)


def keep_server_owned(spec: KindSpec, new: Manifest, old: Mapping[str, Any]) -> None:
    """Puts back into `new`, in place, what only the server may change; checks the preconditions in it.

    Raises:
        Conflict: `new` names another uid or an older resourceVersion than the stored object's.
    """
    before, after = old["metadata"], new["metadata"]
    check_preconditions(spec, old, after.get("uid"), None)
    check_version(spec, old, after.get("resourceVersion"))
    for field in _SERVER_OWNED:
        if field in before:
            after[field] = before[field]
        else:
            after.pop(field, None)
    for field in _NEVER_KEPT:
        after.pop(field, None)
    for field in ("name", "namespace", "generateName", "resourceVersion"):
        if field in before:
            after[field] = before[field]


def check_version(spec: KindSpec, old: Mapping[str, Any], version: object) -> None:
    """Raises Conflict when `version` is set and not the stored one."""
    if version and str(version) != old["metadata"]["resourceVersion"]:
        raise conflict(
            spec,
            old["metadata"]["name"],
            "the object has been modified; please apply your changes to the latest version and try again",
        )


def check_preconditions(spec: KindSpec, old: Mapping[str, Any], uid: str | None, version: str | None) -> None:
    """Raises Conflict when the stored object is another one than the caller means."""
    metadata = old["metadata"]
    if uid and uid != metadata["uid"]:
        raise conflict(
            spec,
            metadata["name"],
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata['uid']}",
        )
    if version and version != metadata["resourceVersion"]:
        raise conflict(
            spec,
            metadata["name"],
            f"Precondition failed: ResourceVersion in precondition: {version}, "
            f"ResourceVersion in object meta: {metadata['resourceVersion']}",
        )


def check_delete_preconditions(
    spec: KindSpec, old: Mapping[str, Any], uid: str | None, version: str | None
) -> None:
    """The same for a delete, which words it in another way."""
    metadata = old["metadata"]
    if uid and uid != metadata["uid"]:
        what = f"the UID in the precondition ({uid}) does not match the UID in record ({metadata['uid']}). "
        why = what + "The object might have been deleted and then recreated"
    elif version and version != metadata["resourceVersion"]:
        what = f"the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in "
        why = what + f"record ({metadata['resourceVersion']}). The object might have been modified"
    else:
        return
    raise errors.Conflict(
        f'Operation cannot be fulfilled on {spec.resource.kind} "{metadata["name"]}": {why}',
        details={**details(spec, metadata["name"]), "kind": spec.resource.kind},
    )


def version_required(spec: KindSpec, name: str) -> errors.Invalid:
    """The 422 for an update that doesn't say what it replaces, of a kind that wants it said."""
    why = "Invalid value: 0: must be specified for an update"
    cause = {"reason": "FieldValueInvalid", "message": why, "field": "metadata.resourceVersion"}
    return errors.Invalid(
        f'{spec.resource.qualified} "{name}" is invalid: metadata.resourceVersion: {why}',
        details={**details(spec, name), "causes": [cause]},
    )


def conflict(spec: KindSpec, name: str, why: str, *, subresource: str = "") -> errors.Conflict:
    """The 409 in Kubernetes' words."""
    what = f"{spec.resource.qualified}/{subresource}" if subresource else spec.resource.qualified
    about = details(spec, name)
    if subresource:
        about["kind"] += f"/{subresource}"
    return errors.Conflict(f'Operation cannot be fulfilled on {what} "{name}": {why}', details=about)


def not_found(spec: KindSpec, name: str) -> errors.NotFound:
    """The 404 for an object."""
    return errors.NotFound(f'{spec.resource.qualified} "{name}" not found', details=details(spec, name))


def already_exists(spec: KindSpec, name: str, *, deleting: bool = False) -> errors.AlreadyExists:
    """The 409 for a taken name; `deleting` when it will be free."""
    what = "object is being deleted: " if deleting else ""
    return errors.AlreadyExists(
        f'{what}{spec.resource.qualified} "{name}" already exists', details=details(spec, name)
    )


def details(spec: KindSpec, name: str) -> dict[str, Any]:
    """`Status.details` naming an object; `kind` is the plural there, as Kubernetes has it."""
    named = {"name": name, "group": spec.resource.group, "kind": spec.resource.plural}
    return {field: value for field, value in named.items() if value}


def validate(spec: KindSpec, manifest: Mapping[str, Any], old: Mapping[str, Any] | None) -> list[FieldError]:
    """Broken rules of `metadata`, against the object that it replaces when there is one."""
    metadata = manifest["metadata"]
    found: list[FieldError] = []
    if old is None:
        found += _validate_name(spec, metadata)
    elif metadata.get("deletionTimestamp"):
        had = set(old["metadata"].get("finalizers") or ())
        if added := [name for name in metadata.get("finalizers") or () if name not in had]:
            detail = "no new finalizers can be added if the object is being deleted, found new finalizers "
            quoted = ", ".join(f'"{name}"' for name in added)
            found.append(forbidden("metadata.finalizers", f"{detail}[]string{{{quoted}}}"))
    if labels := metadata.get("labels"):
        found += check_labels("metadata.labels", labels)
    if annotations := metadata.get("annotations"):
        found += validate_annotations(annotations)
    found += _validate_owners(metadata.get("ownerReferences") or [])
    return found + _validate_finalizers(metadata.get("finalizers") or ())


def _validate_owners(owners: Sequence[Mapping[str, Any]]) -> list[FieldError]:
    path = "metadata.ownerReferences"
    found: list[FieldError] = []
    controllers: list[str] = []
    for index, owner in enumerate(owners):
        place = f"{path}[{index}]"
        fields = ("apiVersion", "kind", "name", "uid")
        found += [
            required(f"{place}.{field}", "must not be empty") for field in fields if not owner.get(field)
        ]
        if owner.get("apiVersion") == "v1" and owner.get("kind") == "Event":
            detail = "/v1, Kind=Event is disallowed from being an owner"
            found.append(invalid(place, owner, detail))
        if owner.get("controller"):
            controllers.append(f"{owner.get('kind', '')}/{owner.get('name', '')}")
    if len(controllers) > 1:
        detail = "Only one reference can have Controller set to true. "
        detail += f'Found "true" in references for {controllers[0]} and {controllers[1]}'
        found.append(invalid(path, owners, detail))
    return found


def _validate_finalizers(finalizers: Sequence[str]) -> list[FieldError]:
    path = "metadata.finalizers"
    found: list[FieldError] = []
    for index, name in enumerate(finalizers):
        found += check_key(path, name)
        if "/" not in name and name not in _STANDARD_FINALIZERS:
            detail = "name is neither a standard finalizer name nor is it fully qualified"
            found.append(invalid(f"{path}[{index}]", name, detail))
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        detail = "finalizer orphan and foregroundDeletion cannot be both set"
        found.append(invalid(path, finalizers, detail))
    return found


def _validate_name(spec: KindSpec, metadata: Mapping[str, Any]) -> list[FieldError]:
    name = metadata.get("name")
    if not name:
        return [required("metadata.name", "name or generateName is required")]
    check = check_subdomain_name if spec.name_is_subdomain else check_label_name
    return check("metadata.name", name)


def validate_annotations(annotations: Mapping[str, str]) -> list[FieldError]:
    """Broken rules of annotations: of their keys, and of the size of all."""
    found: list[FieldError] = []
    size = 0
    for key, value in annotations.items():
        found += check_key("metadata.annotations", key.lower())
        size += len(key) + len(value.encode())
    if size > _MAX_ANNOTATIONS_BYTES:
        found.append(too_long("metadata.annotations", _MAX_ANNOTATIONS_BYTES))
    return found
