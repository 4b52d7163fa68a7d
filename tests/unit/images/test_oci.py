from __future__ import annotations

import json
from typing import Any

import pytest

from gpuyard import errors
from gpuyard.images import oci
from gpuyard.images.oci import Config, ContainerConfig, Descriptor, History, Index, Manifest, Platform

_CONFIG = Descriptor.for_bytes(oci.OCI_CONFIG, b"{}")
_LAYER = Descriptor.for_bytes(oci.OCI_LAYER_GZIP, b"layer")


def test_the_digest_of_the_empty_descriptor_is_the_specifications() -> None:
    # image-spec, manifest.md, "Guidance for an empty descriptor"
    digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert oci.digest_of(b"{}") == digest
    assert oci.parse_digest(digest) == digest


@pytest.mark.parametrize("text", ["", "sha256:12", "md5:" + "0" * 64, "sha256:" + "A" * 64])
def test_other_digests_are_refused(text: str) -> None:
    with pytest.raises(errors.ImageDamaged, match="is not a sha256 digest"):
        oci.parse_digest(text)


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("Linux/x86_64", Platform("linux", "amd64")),
        ("linux/aarch64", Platform("linux", "arm64")),
        ("linux/arm/v7", Platform("linux", "arm", "v7")),
    ],
)
def test_platforms(text: str, platform: Platform) -> None:
    assert Platform.parse(text) == platform
    assert Platform.parse(str(platform)) == platform


@pytest.mark.parametrize("text", ["", "linux", "linux/", "a/b/c/d"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(errors.UsageError, match="is not a platform"):
        Platform.parse(text)


def test_variants_matter_where_they_differ() -> None:
    assert Platform("linux", "arm64").runs(Platform("linux", "arm64", "v8"))
    assert Platform("linux", "arm64", "v8").runs(Platform("linux", "arm64"))
    assert not Platform("linux", "arm", "v6").runs(Platform("linux", "arm", "v7"))
    assert not Platform("linux", "amd64").runs(Platform("linux", "arm64"))


def test_manifests_and_indexes_survive_writing_and_reading() -> None:
    manifest = Manifest(_CONFIG, (_LAYER, _LAYER), {"b": "2", "a": "1"}, _CONFIG, "application/x")
    assert oci.parse_manifest(manifest.to_bytes()) == manifest
    index = Index(
        (Descriptor(oci.OCI_MANIFEST, _LAYER.digest, 5, {}, Platform("linux", "amd64")),), {"a": "1"}
    )
    assert oci.parse_manifest(index.to_bytes(), "text/plain") == index


def test_equal_values_have_equal_bytes() -> None:
    one = Manifest(_CONFIG, (), {"b": "2", "a": "1"}).to_bytes()
    assert one == Manifest(_CONFIG, (), {"a": "1", "b": "2"}).to_bytes()
    assert b" " not in one
    assert list(json.loads(one)) == sorted(json.loads(one))


def test_docker_formats_are_read_and_can_become_oci() -> None:
    raw: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": oci.DOCKER_MANIFEST,
        "config": {"mediaType": oci.DOCKER_CONFIG, "digest": _CONFIG.digest, "size": 2},
        "layers": [{"mediaType": oci.DOCKER_LAYER_GZIP, "digest": _LAYER.digest, "size": 5}],
    }
    manifest = oci.parse_manifest(json.dumps(raw).encode())
    assert isinstance(manifest, Manifest)
    assert manifest.config.as_oci() == _CONFIG
    assert manifest.layers[0].as_oci() == _LAYER
    listed = {"schemaVersion": 2, "mediaType": oci.DOCKER_LIST, "manifests": []}
    assert isinstance(oci.parse_manifest(json.dumps(listed).encode()), Index)


def test_a_layout_without_media_types_is_read_by_its_shape() -> None:
    assert oci.parse_manifest(b'{"schemaVersion":2,"manifests":[]}') == Index(())
    bare = {"schemaVersion": 2, "config": _CONFIG.raw(), "layers": []}
    assert oci.parse_manifest(json.dumps(bare).encode()) == Manifest(_CONFIG, ())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"schemaVersion":1,"mediaType":"application/vnd.docker.distribution.manifest.v1+json"}',
        json.dumps({"mediaType": oci.OCI_MANIFEST}).encode(),
        json.dumps({"mediaType": oci.OCI_MANIFEST, "config": {"mediaType": "x", "size": 1}}).encode(),
        json.dumps({"mediaType": oci.OCI_INDEX, "manifests": ["x"]}).encode(),
        json.dumps({"mediaType": oci.OCI_INDEX, "manifests": [_LAYER.raw() | {"size": -1}]}).encode(),
        json.dumps({"mediaType": oci.OCI_INDEX, "manifests": [_LAYER.raw() | {"digest": "../x"}]}).encode(),
        json.dumps({"mediaType": oci.OCI_INDEX, "manifests": 7}).encode(),
        json.dumps({"mediaType": oci.OCI_INDEX, "manifests": [], "annotations": 7}).encode(),
    ],
)
def test_what_is_no_manifest_is_damaged(content: bytes) -> None:
    with pytest.raises(errors.ImageDamaged):
        oci.parse_manifest(content)


def test_a_config_survives_with_what_is_not_understood() -> None:
    raw = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {
            "User": "1000",
            "Env": ["PATH=/bin", "A=b=c", "A=d"],
            "Cmd": ["sh"],
            "Labels": {"x": "y"},
            "ExposedPorts": {"80/tcp": {}},
            "Healthcheck": {"Test": ["NONE"]},
        },
        "rootfs": {"type": "layers", "diff_ids": [_LAYER.digest]},
        "history": [{"created_by": "RUN x", "empty_layer": True}],
    }
    config = Config.parse(json.dumps(raw).encode())
    assert config.platform == Platform("linux", "amd64")
    assert config.history == (History(created_by="RUN x", empty_layer=True),)
    assert config.container.environment == {"PATH": "/bin", "A": "d"}
    assert json.loads(config.to_bytes()) == raw
    assert Config.parse(config.to_bytes()) == config


@pytest.mark.parametrize("content", [b"x", b"[]", b'{"config":7}', b'{"rootfs":{"diff_ids":["x"]}}'])
def test_what_is_no_config_is_damaged(content: bytes) -> None:
    with pytest.raises(errors.ImageDamaged):
        Config.parse(content)


def test_a_config_without_anything_is_small() -> None:
    assert ContainerConfig().raw() == {}
    assert json.loads(Config(Platform("linux", "amd64")).to_bytes())["rootfs"]["diff_ids"] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Env", [1]),
        ("Env", "A=b"),
        ("Env", {"A": "b"}),
        ("Cmd", [None]),
        ("Labels", ["a"]),
        ("Labels", {"a": 1}),
    ],
)
def test_what_containers_start_with_is_text(name: str, value: object) -> None:
    content = json.dumps({"os": "linux", "architecture": "amd64", "config": {name: value}}).encode()
    with pytest.raises(errors.ImageDamaged, match=f"{name} of an image"):
        Config.parse(content)


def test_annotations_are_text() -> None:
    entry = _LAYER.raw() | {"annotations": {"org.opencontainers.image.ref.name": 5}}
    for raw in ({"manifests": [entry]}, {"manifests": [], "annotations": {"a": [1]}}):
        with pytest.raises(errors.ImageDamaged, match="annotations of an image"):
            oci.parse_manifest(json.dumps({"schemaVersion": 2, **raw}).encode())
