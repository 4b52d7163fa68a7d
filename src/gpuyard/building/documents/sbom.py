"""What is in an image, as a CycloneDX document attached to it as a referrer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from gpuyard.building.lock import PlatformLock
from gpuyard.building.system_packages.locked import SystemPackage
from gpuyard.images.oci import OCI_EMPTY, Descriptor, Digest, Manifest

if TYPE_CHECKING:
    from gpuyard.building.project.project import Project

MEDIA_TYPE = "application/vnd.cyclonedx+json"
EMPTY = b"{}"


def cyclonedx(
    base: str,
    base_digest: Digest,
    base_packages: Mapping[str, str],
    lock: PlatformLock,
    projects: Sequence[Project] = (),
) -> bytes:
    """A CycloneDX 1.5 document, the same for equal content: no time and no serial number.

    Args:
        base: the base's reference.
        base_digest: of its manifest for the image's platform.
        base_packages: Python packages that it brings, version by name.
        lock: names what the build added of others.
        projects: the user's own.
    """
    wheels = lock.wheels
    added = {wheel.name for wheel in wheels} | {project.metadata.key for project in projects}
    components: list[dict[str, Any]] = [
        {
            "type": "container",
            "bom-ref": f"base@{base_digest}",
            "name": base,
            "version": base_digest,
            "hashes": [{"alg": "SHA-256", "content": base_digest.removeprefix("sha256:")}],
        }
    ]
    components += [
        _package(name, version) for name, version in sorted(base_packages.items()) if name not in added
    ]
    components += [
        _package(wheel.name, wheel.version) | {"hashes": [{"alg": "SHA-256", "content": wheel.sha256}]}
        for wheel in sorted(wheels)
    ]
    components += map(_project, projects)
    components += [_system_package(package, lock.distribution) for package in lock.system_packages]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"tools": {"components": [{"type": "application", "name": "gpuyard"}]}},
        "components": components,
    }
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def _package(name: str, version: str) -> dict[str, Any]:
    url = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    return {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}


def _project(project: Project) -> dict[str, Any]:
    """Without an address: the index may have somebody else's package of that name."""
    name, version = project.metadata.key, project.metadata.version
    found = {"type": "application", "bom-ref": f"project:{name}@{version}", "name": name, "version": version}
    hashes = [{"alg": "SHA-256", "content": project.wheel.sha256}] if project.wheel else []
    return found | ({"hashes": hashes} if hashes else {})


def _system_package(package: SystemPackage, distribution: str) -> dict[str, Any]:
    url = (
        f"pkg:deb/{distribution}/{quote(package.name)}@{quote(package.version, safe=':~')}"
        f"?arch={package.arch}"
    )
    return {
        "type": "library",
        "bom-ref": url,
        "name": package.name,
        "version": package.version,
        "purl": url,
        "hashes": [{"alg": "SHA-256", "content": package.sha256}],
    }


def sbom_manifest(sbom: bytes, subject: Descriptor) -> Manifest:
    """The artifact that ties the document to its image."""
    return Manifest(
        config=Descriptor.for_bytes(OCI_EMPTY, EMPTY),
        layers=(Descriptor.for_bytes(MEDIA_TYPE, sbom),),
        subject=Descriptor(subject.media_type, subject.digest, subject.size),
        artifact_type=MEDIA_TYPE,
    )
