"""What is in an image, as a CycloneDX document attached to it as a referrer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from gpuyard.building.lock import PlatformLock
from gpuyard.building.system_packages.locked import SystemPackage
from gpuyard.images.oci import OCI_EMPTY, Descriptor, Digest, Manifest

MEDIA_TYPE = "application/vnd.cyclonedx+json"
EMPTY = b"{}"


def cyclonedx(base: str, base_digest: Digest, base_packages: Mapping[str, str], lock: PlatformLock) -> bytes:
    """A CycloneDX 1.5 document, the same for equal content: no time and no serial number.

    Args:
        base: the base's reference.
        base_digest: of its manifest for the image's platform.
        base_packages: Python packages that it brings, version by name.
        lock: names what the build added.
    """
    wheels = lock.wheels
    added = {wheel.name for wheel in wheels}
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
