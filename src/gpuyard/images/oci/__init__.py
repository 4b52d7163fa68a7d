"""Images as values: digests, descriptors, manifests, indexes, configs.

Sources: OCI image-spec 1.1, Docker image manifest v2 schema 2.
Reading keeps what it doesn't know only where a build must hand it on (the container's config).
Writing gives canonical bytes: keys sorted, no spaces, so equal values have equal digests.
"""

from gpuyard.images.oci.config import Config, ContainerConfig, History
from gpuyard.images.oci.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LAYER_GZIP,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
    Digest,
    Platform,
    digest_of,
    parse_digest,
)
from gpuyard.images.oci.document import damage_named
from gpuyard.images.oci.manifest import INDEX_TYPES, MANIFEST_TYPES, Index, Manifest, parse_manifest

__all__ = [
    "DOCKER_CONFIG",
    "DOCKER_LAYER_GZIP",
    "DOCKER_LIST",
    "DOCKER_MANIFEST",
    "INDEX_TYPES",
    "MANIFEST_TYPES",
    "OCI_CONFIG",
    "OCI_EMPTY",
    "OCI_INDEX",
    "OCI_LAYER",
    "OCI_LAYER_GZIP",
    "OCI_LAYER_ZSTD",
    "OCI_MANIFEST",
    "Config",
    "ContainerConfig",
    "Descriptor",
    "Digest",
    "History",
    "Index",
    "Manifest",
    "Platform",
    "damage_named",
    "digest_of",
    "parse_digest",
    "parse_manifest",
]
