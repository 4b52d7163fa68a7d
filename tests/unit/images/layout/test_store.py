from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.images import oci
from gpuyard.images.layout.reference import LayoutReference
from gpuyard.images.layout.store import LayoutStore, open_layout
from gpuyard.images.oci import Descriptor, Digest
from gpuyard.images.store import Content, read_blob
from gpuyard.images.transfer import Blob, ensure_blobs

_LAYER = os.urandom(600_000)
_BLOB = Descriptor.for_bytes(oci.OCI_LAYER, _LAYER)


def _content(data: bytes) -> Content:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    return pieces


async def _image(store: LayoutStore, layer: bytes = _LAYER, tag: str | None = "v1") -> Descriptor:
    config = oci.Config(oci.Platform("linux", "amd64")).to_bytes()
    descriptors = []
    for kind, data in ((oci.OCI_CONFIG, config), (oci.OCI_LAYER, layer)):
        descriptors.append(Descriptor.for_bytes(kind, data))
        await store.put_blob(descriptors[-1].digest, len(data), _content(data))
    manifest = oci.Manifest(descriptors[0], (descriptors[1],))
    return await store.put_manifest(manifest.to_bytes(), oci.OCI_MANIFEST, tag)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("oci:a/b", LayoutReference(Path("a/b"))),
        ("oci:/a/b:v1", LayoutReference(Path("/a/b"), "v1")),
        ("oci:a.tar:v1", LayoutReference(Path("a.tar"), "v1", archive=True)),
        ("oci-archive:a:v1", LayoutReference(Path("a"), "v1", archive=True)),
        ("a/b:v1", None),
        ("localhost:5000/a", None),
        ("oci", None),
    ],
)
def test_references(text: str, reference: LayoutReference | None) -> None:
    assert LayoutReference.parse(text) == reference
    if reference:
        assert LayoutReference.parse(str(reference)) == reference


def test_a_reference_needs_a_path() -> None:
    with pytest.raises(errors.ImageReferenceError, match="names no path"):
        LayoutReference.parse("oci::v1")


@pytest.mark.parametrize("archive", [False, True])
async def test_what_is_written_is_read_again(tmp_path: Path, archive: bool) -> None:
    path = tmp_path / "image"
    async with open_layout(path, archive=archive, write=True) as store:
        image = await _image(store)
        assert await store.has_blob(_BLOB.digest)
        assert not await store.mount_blob(_BLOB.digest, "other")
    async with open_layout(path, archive=archive) as store:
        assert await store.find_manifest("v1") == image
        assert await store.find_manifest(image.digest) == image
        assert await store.find_manifest("v2") is None
        assert await read_blob(store, _BLOB) == _LAYER
        assert await store.has_blob(_BLOB.digest)
        assert not await store.has_blob(oci.digest_of(b"other"))
        with pytest.raises(errors.LayoutError, match="opened for reading"):
            await store.put_manifest(oci.Index(()).to_bytes(), oci.OCI_INDEX, "v3")
    assert [p.name for p in tmp_path.iterdir()] == ["image"]


async def test_archives_of_equal_content_are_equal(tmp_path: Path) -> None:
    for name in ("one", "two"):
        os.umask(0o077 if name == "two" else 0o022)
        try:
            async with open_layout(tmp_path / name, archive=True, write=True) as store:
                await _image(store)
        finally:
            os.umask(0o022)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "two").stat().st_mode & 0o777 == 0o644


async def test_a_failed_write_leaves_the_old_archive(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    async with open_layout(path, archive=True, write=True) as store:
        await _image(store)
    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        async with open_layout(path, archive=True, write=True) as store:
            await _image(store, b"other")
            raise RuntimeError
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["image.tar"]


async def test_a_tag_moves_and_others_stay(tmp_path: Path) -> None:
    async with open_layout(tmp_path / "o", write=True) as store:
        await _image(store, tag="v1")
        await _image(store, tag="v2")
        moved = await _image(store, b"new", tag="v1")
        assert await store.find_manifest("v1") == moved
        assert await store.find_manifest("v2") != moved
        with pytest.raises(errors.ImageNotFound, match="no tag 'v3'") as caught:
            await store.get_manifest("v3")
        assert caught.value.remedy == "tags there: v1, v2"


async def test_tags_written_at_once_are_all_there(tmp_path: Path) -> None:
    async with open_layout(tmp_path / "o", write=True) as store:
        made = await asyncio.gather(*(_image(store, bytes([n]), f"v{n}") for n in range(8)))
        assert [await store.find_manifest(f"v{n}") for n in range(8)] == made


async def test_whole_names_as_tags_are_understood(tmp_path: Path) -> None:
    async with open_layout(tmp_path / "o", write=True) as store:
        image = await _image(store, tag="docker.io/library/debian:12")
        assert await store.find_manifest("12") == image


async def test_wrong_content_gets_no_name(tmp_path: Path) -> None:
    async with open_layout(tmp_path / "o", write=True) as store:
        with pytest.raises(errors.ImageDamaged, match="what was written is not sha256"):
            await store.put_blob(_BLOB.digest, 3, _content(b"abc"))
        with pytest.raises(errors.ImageDamaged, match="should have 2 bytes and has 3"):
            await store.put_blob(oci.digest_of(b"abc"), 2, _content(b"abc"))
    assert not list((tmp_path / "o" / "blobs" / "sha256").iterdir())


@pytest.mark.parametrize("change", [b"?" * len(_LAYER), _LAYER[:-1], _LAYER + b"?", b""])
async def test_damage_is_noticed_on_reading(tmp_path: Path, change: bytes) -> None:
    async with open_layout(tmp_path / "o", write=True) as store:
        image = await _image(store)
        (tmp_path / "o/blobs/sha256" / _BLOB.digest[7:]).write_bytes(change)
        with pytest.raises(errors.ImageDamaged, match="other content"):
            await read_blob(store, _BLOB)
        (tmp_path / "o/blobs/sha256" / image.digest[7:]).write_bytes(b"{}")
        with pytest.raises(errors.ImageDamaged, match="other content"):
            await store.get_manifest("v1")
        (tmp_path / "o/blobs/sha256" / _BLOB.digest[7:]).unlink()
        with pytest.raises(errors.ImageNotFound, match="it isn't in the layout"):
            await read_blob(store, _BLOB)


@pytest.mark.parametrize("digest", ["sha256:../../../../etc/passwd", "x:y"])
async def test_digests_are_no_paths(tmp_path: Path, digest: str) -> None:
    async with open_layout(tmp_path / "o", write=True) as store:
        for attempt in (store.get_manifest(digest), store.has_blob(Digest(digest))):
            with pytest.raises(errors.ImageDamaged, match="is not a sha256 digest"):
                await attempt


async def test_referrers(tmp_path: Path) -> None:
    async with open_layout(tmp_path / "o", write=True) as store:
        image = await _image(store)
        empty = Descriptor.for_bytes(oci.OCI_EMPTY, b"{}")
        await store.put_blob(empty.digest, 2, _content(b"{}"))
        artifact = oci.Manifest(empty, (empty,), {"a": "b"}, image, "application/x")
        for _ in range(2):
            pushed = await store.put_manifest(artifact.to_bytes(), oci.OCI_MANIFEST)
        (found,) = await store.referrers(image.digest)
        assert (found.digest, found.artifact_type, found.annotations) == (
            pushed.digest,
            "application/x",
            {"a": "b"},
        )
        assert await store.referrers(pushed.digest) == ()


async def test_the_first_failure_stops_a_copy(tmp_path: Path) -> None:
    async with (
        open_layout(tmp_path / "a", write=True) as source,
        open_layout(tmp_path / "b", write=True) as target,
    ):
        await _image(source)
        (tmp_path / "a/blobs/sha256" / _BLOB.digest[7:]).write_bytes(b"?")
        with pytest.raises(errors.ImageDamaged):
            await ensure_blobs(target, [Blob(_BLOB, lambda: source.open_blob(_BLOB))])
        assert not await target.has_blob(_BLOB.digest)


async def test_what_is_no_layout(tmp_path: Path) -> None:
    async def opening(path: Path, archive: bool) -> None:
        async with open_layout(path, archive=archive):
            pass

    with pytest.raises(errors.LayoutError, match=r"not an OCI layout: it has no index.json"):
        await opening(tmp_path, False)
    with pytest.raises(errors.LayoutError, match="No such file"):
        await opening(tmp_path / "none.tar", True)
    (tmp_path / "text").write_text("x" * 2000)
    with pytest.raises(errors.LayoutError, match="not an uncompressed tar"):
        await opening(tmp_path / "text", True)
    with tarfile.open(tmp_path / "docker.tar", "w") as tar:
        entry = tarfile.TarInfo("manifest.json")
        entry.size = 2
        tar.addfile(entry, io.BytesIO(b"[]"))
    with pytest.raises(errors.LayoutError, match="not an OCI archive") as caught:
        await opening(tmp_path / "docker.tar", True)
    assert "skopeo copy docker-archive:" in caught.value.remedy
    (tmp_path / "index.json").write_text(json.dumps(oci.Manifest(_BLOB, ()).config.raw()))
    async with open_layout(tmp_path) as store:
        with pytest.raises(errors.ImageDamaged):
            await store.get_manifest("v1")


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for archive in (False, True):
        with pytest.raises(errors.LayoutError, match=r"writing .*/file/x failed: Not a directory") as caught:
            async with open_layout(tmp_path / "file" / "x", archive=archive, write=True):
                pass
        assert "free space" in caught.value.remedy


async def test_a_damaged_index_is_named(tmp_path: Path) -> None:
    async with open_layout(tmp_path / "l", write=True) as store:
        (tmp_path / "l" / "index.json").write_bytes(b"<html>")
        with pytest.raises(errors.ImageDamaged, match=r"/l/index.json: a manifest is not JSON") as caught:
            await store.get_manifest("v1")
    assert caught.value.remedy


async def test_a_config_that_says_it_is_huge_is_not_read(tmp_path: Path) -> None:
    async with open_layout(tmp_path / "l", write=True) as store:
        huge = Descriptor(oci.OCI_CONFIG, Digest("sha256:" + "a" * 64), 1 << 40)
        with pytest.raises(errors.ImageDamaged, match="bytes, which no config has"):
            await read_blob(store, huge)
