"""What of a client's object may be stored: decoded, completed and held against the rules (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gpuyard import errors
from gpuyard.kube.objects import Manifest, ObjectKey
from gpuyard.local.objects import metadata as meta
from gpuyard.local.objects.kinds import KindSpec, schema
from gpuyard.local.objects.kinds.fields import invalid_object

FieldValidation = Literal["Ignore", "Warn", "Strict"]


@dataclass(frozen=True)
class WriteOptions:
    """Query parameters of a write.

    Attributes:
        dry_run: everything but the write.
        field_validation: what unknown fields get: nothing, a warning, or a refusal.
        is_patch: what is written was made by a patch; then it is the patch that a wrong field is wrong in.
    """

    dry_run: bool = False
    field_validation: FieldValidation = "Strict"
    is_patch: bool = False


#: A write that counts, strict about unknown fields.
DEFAULT = WriteOptions()


def admit_change(
    spec: KindSpec,
    key: ObjectKey,
    given: Mapping[str, Any],
    old: Manifest,
    subresource: str,
    options: WriteOptions,
) -> tuple[Manifest, tuple[str, ...]]:
    """What may be stored of `given` in the place of `old`, and the warnings about it.

    Raises:
        BadRequest, Conflict, Invalid: it breaks a precondition or a rule.
    """
    new, warnings = decode(spec, given, options)
    meta.check_names(spec, new, key)
    if spec.needs_version and not new["metadata"].get("resourceVersion"):
        raise meta.version_required(spec, key.name)
    meta.keep_server_owned(spec, new, old)
    if subresource == "status":
        new = _with_status_and_metadata(old, new)
    elif spec.has_status:
        new = _with_field(new, "status", old)
    spec.default(new)
    if not subresource:
        spec.prepare_update(new, old)
    check_rules(spec, new, old)
    if spec.has_generation and new.get("spec") != old.get("spec"):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return new, warnings


def _with_field(manifest: Manifest, field: str, source: Manifest) -> Manifest:
    """`manifest` with one field as it is in `source`."""
    result = {name: value for name, value in manifest.items() if name != field}
    if field in source:
        result[field] = source[field]
    # A copy, since defaulting works in place and `old` must stay comparable.
    return {**result, "metadata": dict(result["metadata"])}


def _with_status_and_metadata(old: Manifest, new: Manifest) -> Manifest:
    """What a write of the status changes: also labels, annotations and finalizers, but not the owners."""
    metadata = {**new["metadata"], "ownerReferences": old["metadata"].get("ownerReferences")}
    if not metadata["ownerReferences"]:
        del metadata["ownerReferences"]
    return {**_with_field(old, "status", new), "metadata": metadata}


def decode(
    spec: KindSpec, given: Mapping[str, Any], options: WriteOptions
) -> tuple[Manifest, tuple[str, ...]]:
    """A copy of the known fields, and warnings about the others.

    Raises:
        BadRequest: another kind, a wrong type, or an unknown field where those are refused.
    """
    meta.check_kind(spec, given)
    try:
        manifest, unknown = schema.decode(schema.type_name(spec.resource), given)
        if unknown and options.field_validation == "Strict":
            raise schema.strict_error(spec.resource, unknown)
    except errors.BadRequest as error:
        if not options.is_patch:
            raise
        cause = {"reason": "FieldValueInvalid", "message": error.message, "field": "patch"}
        why = f' "" is invalid: patch: {error.message}'
        raise errors.Invalid(why, details={"causes": [cause]}) from error
    manifest["apiVersion"], manifest["kind"] = spec.resource.api_version, spec.resource.kind
    manifest.setdefault("metadata", {})
    if options.field_validation == "Ignore":
        return manifest, ()
    return manifest, tuple(f'unknown field "{path}"' for path in unknown)


def check_rules(spec: KindSpec, manifest: Manifest, old: Manifest | None) -> None:
    """Raises Invalid with every rule that the object breaks."""
    found = meta.validate(spec, manifest, old) + spec.validate(manifest, old)
    if found:
        raise invalid_object(spec, manifest["metadata"].get("name", ""), found)
