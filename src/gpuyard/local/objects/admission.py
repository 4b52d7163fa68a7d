"""What of a client's object may be stored: decoded, completed and held against the rules (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gpuyard import errors
from gpuyard.kube.objects import Manifest, ObjectKey, Resource
from gpuyard.local.objects import metadata as meta
from gpuyard.local.objects.kinds import schema
from gpuyard.local.objects.kinds.fields import invalid_object, invalid_options, unsupported
from gpuyard.local.objects.kinds.kind import KindSpec, Subresource, with_field

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


def is_dry_run(kind: str, value: Any) -> bool:
    """Reads `dryRun` of a query or a body, which is of this kind of options.

    Raises:
        Invalid: it is something else than All.
    """
    if not value:
        return False
    if value not in ("All", ["All"]):
        given = value if isinstance(value, list) else [value]
        raise invalid_options(kind, unsupported("dryRun", given, ("All",)))
    return True


#: A write that counts, strict about unknown fields.
DEFAULT = WriteOptions()


def admit_change(
    spec: KindSpec,
    key: ObjectKey,
    given: Mapping[str, Any],
    old: Manifest,
    subresource: Subresource | None,
    options: WriteOptions,
) -> tuple[Manifest, tuple[str, ...]]:
    """What may be stored of `given` in the place of `old`, and the warnings about it.

    The one door for updates and patches, of the object and of its subresources.

    Raises:
        BadRequest, Conflict, Invalid: it breaks a precondition or a rule.
    """
    body = spec.resource if subresource is None or subresource.view is None else subresource.body
    new, warnings = decode(body, given, options)
    meta.check_names(spec, new, key)
    if spec.needs_version and not new["metadata"].get("resourceVersion"):
        raise meta.version_required(spec, key.name)
    meta.keep_server_owned(spec, new, old)
    if subresource is not None and subresource.merge is not None:
        new = subresource.merge(old, new)
    elif spec.has_status:
        new = with_field(new, "status", old)
    spec.default(new)
    if subresource is None:
        spec.prepare_update(new, old)
    check_rules(spec, new, old)
    if spec.has_generation and new.get("spec") != old.get("spec"):
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return new, warnings


def admit_body(
    spec: KindSpec, key: ObjectKey, subresource: Subresource, given: Any, options: WriteOptions
) -> tuple[Manifest, tuple[str, ...]]:
    """A body that is created below an object, decoded, and the warnings about it.

    Raises:
        BadRequest: it isn't of the subresource's kind, or names another object.
    """
    body, warnings = decode(subresource.body, given, options)
    meta.check_names(spec, body, key)
    return body, warnings


def decode(resource: Resource, given: Any, options: WriteOptions) -> tuple[Manifest, tuple[str, ...]]:
    """A copy of the known fields, and warnings about the others.

    Raises:
        BadRequest: another kind, a wrong type, or an unknown field where those are refused.
    """
    meta.check_kind(resource, given)
    try:
        manifest, unknown = schema.decode(schema.type_name(resource), given)
        if unknown and options.field_validation == "Strict":
            raise schema.strict_error(resource, unknown)
    except errors.BadRequest as error:
        if not options.is_patch:
            raise
        cause = {"reason": "FieldValueInvalid", "message": error.message, "field": "patch"}
        why = f' "" is invalid: patch: {error.message}'
        raise errors.Invalid(why, details={"causes": [cause]}) from error
    manifest["apiVersion"], manifest["kind"] = resource.api_version, resource.kind
    manifest.setdefault("metadata", {})
    if options.field_validation == "Ignore":
        return manifest, ()
    return manifest, tuple(f'unknown field "{path}"' for path in unknown)


def check_rules(spec: KindSpec, manifest: Manifest, old: Manifest | None) -> None:
    """Raises Invalid with every rule that the object breaks."""
    found = meta.validate(spec, manifest, old) + spec.validate(manifest, old)
    if found:
        raise invalid_object(spec, manifest["metadata"].get("name", ""), found)
