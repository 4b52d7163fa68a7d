from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.images.contents.subtree import read_subtree
from gpuyard.images.image import Image, open_images
from gpuyard.images.layers import FILE, FOLDER, LINK, Entry
from gpuyard.images.oci import (
    OCI_CONFIG,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Config,
    ContainerConfig,
    Descriptor,
    Digest,
    Manifest,
    Platform,
)
from gpuyard.images.places import Places
from tests.unit.images.conftest import tar_of

Files = Mapping[str, bytes | str]


async def image_of(folder: Path, *layers: Files | bytes) -> Image:
    """An image in a layout whose layers are these, the lowest first."""
    async with Places({}) as places:
        place = await places.open(f"oci:{folder / 'layout'}:v1", write=True)
        blobs = []
        config = Config(
            Platform("linux", "amd64"),
            ContainerConfig(),
            tuple(Digest(f"sha256:{n:064}") for n in range(len(layers))),
        ).to_bytes()
        for kind, content in (
            *((OCI_LAYER_GZIP, gzip.compress(x if isinstance(x, bytes) else tar_of(x))) for x in layers),
            (OCI_CONFIG, config),
        ):
            blob = Descriptor.for_bytes(kind, content)
            async with place.store.start_upload() as upload:
                await upload.write(content)
                await upload.commit(blob.digest)
            blobs.append(blob)
        manifest = Manifest(config=blobs[-1], layers=tuple(blobs[:-1]))
        await place.store.put_manifest(manifest.to_bytes(), OCI_MANIFEST, "v1")
    async with Places({}) as places:
        (image,) = (await open_images(await places.open(f"oci:{folder / 'layout'}:v1"))).images
        return image


def text(entry: Entry) -> str:
    if entry.kind == LINK:
        return f"-> {entry.target}"
    if entry.kind == FOLDER:
        return "folder"
    assert entry.content
    content = b"".join(entry.content())
    assert (entry.kind, len(content)) == (FILE, entry.size)
    return content.decode()


async def taken(image: Image, path: str, destination: str | None = None) -> dict[str, str]:
    found = await read_subtree(image, path, io.BytesIO(), lambda done, total: None)
    assert found is not None
    place = path.strip("/") if destination is None else destination
    return {entry.path: text(entry) for entry in found.entries(place, 0)}


async def test_a_folder_is_what_the_layers_together_show(tmp_path: Path) -> None:
    image = await image_of(
        tmp_path,
        {
            "opt/tool/": "",
            "opt/tool/old": "old",
            "opt/tool/kept": "kept",
            "opt/tool/changed": "below",
            "opt/tool/gone/x": "x",
            "opt/tool/emptied/x": "x",
            "opt/tool/was-folder/x": "x",
            "opt/tool/was-file": "file",
            "opt/toolbox": "not in it",
        },
        {
            "opt/tool/.wh.old": "",
            "opt/tool/changed": "above",
            "opt/tool/.wh.gone": "",
            "opt/tool/emptied/.wh..wh..opq": "",
            "opt/tool/emptied/y": "y",
            "opt/tool/was-folder": "file now",
            "opt/tool/was-file/x": "in a folder now",
        },
        {"etc/other": "other"},
    )
    assert await taken(image, "/opt/tool") == {
        "opt/tool": "folder",
        "opt/tool/changed": "above",
        "opt/tool/emptied": "folder",
        "opt/tool/emptied/y": "y",
        "opt/tool/kept": "kept",
        "opt/tool/was-file": "folder",
        "opt/tool/was-file/x": "in a folder now",
        "opt/tool/was-folder": "file now",
    }


@pytest.mark.parametrize("way", [{"opt/.wh.tool": ""}, {".wh..wh..opq": ""}, {"opt/.wh..wh..opq": ""}])
async def test_what_a_layer_took_away_is_not_there(tmp_path: Path, way: Files) -> None:
    image = await image_of(tmp_path, {"opt/tool/x": "x"}, way)
    assert await read_subtree(image, "/opt/tool", io.BytesIO(), lambda done, total: None) is None
    again = await image_of(tmp_path, {"opt/tool/x": "x"}, way, {"opt/tool/y": "y"})
    assert await taken(again, "/opt/tool") == {"opt/tool/y": "y"}


async def test_a_whiteout_and_a_new_file_of_one_layer_leave_the_new_file(tmp_path: Path) -> None:
    image = await image_of(tmp_path, {"a/x": "old", "a/z": "z"}, {"a/x": "new", "a/.wh..wh..opq": ""})
    assert await taken(image, "/a") == {"a/x": "new"}


async def test_a_file_goes_under_its_new_name(tmp_path: Path) -> None:
    image = await image_of(tmp_path, {"bin/uv": "uv", "bin/uvx": "uvx"})
    assert await taken(image, "/bin/uv", "usr/local/bin/uv") == {"usr/local/bin/uv": "uv"}


async def test_links_on_the_way_are_followed_and_those_inside_are_kept(tmp_path: Path) -> None:
    image = await image_of(
        tmp_path,
        {
            "lib": "-> usr/lib",
            "usr/lib/libx.so": "-> libx.so.1",
            "usr/lib/libx.so.1": "x",
            "opt/a/inside": "-> ./b/c",
            "opt/a/absolute": "-> /opt/a/b/c",
            "opt/a/outside": "-> /usr/lib/libx.so",
            "opt/a/beside": "-> ../ab",
            "opt/a/b/c": "c",
        },
        {"usr/lib/libx.so.1": "newer"},
    )
    assert await taken(image, "/lib/libx.so", "x.so") == {"x.so": "newer"}
    found = await read_subtree(image, "/opt/a", io.BytesIO(), lambda done, total: None)
    assert found is not None
    assert {entry.path: text(entry) for entry in found.entries("srv", 0)} == {
        "srv/absolute": "-> /srv/b/c",
        "srv/b": "folder",
        "srv/b/c": "c",
        "srv/beside": "-> ../ab",
        "srv/inside": "-> ./b/c",
        "srv/outside": "-> /usr/lib/libx.so",
    }
    assert found.leading_out() == ["/opt/a/beside → ../ab", "/opt/a/outside → /usr/lib/libx.so"]


async def test_links_in_a_circle_lead_to_nothing(tmp_path: Path) -> None:
    image = await image_of(tmp_path, {"a": "-> b", "b": "-> a"})
    assert await read_subtree(image, "/a/x", io.BytesIO(), lambda done, total: None) is None


async def test_a_hard_link_brings_its_bytes_wherever_they_are(tmp_path: Path) -> None:
    image = await image_of(
        tmp_path,
        {"opt/a/first": "one", "opt/a/second": "=> opt/a/first", "usr/x": "far", "opt/a/third": "=> usr/x"},
        {"opt/a/first": "changed"},
    )
    assert await taken(image, "/opt/a") == {
        "opt/a/first": "changed",
        "opt/a/second": "one",
        "opt/a/third": "far",
    }


async def test_a_hard_link_into_a_lower_layer_brings_its_bytes(tmp_path: Path) -> None:
    image = await image_of(tmp_path, {"usr/x": "far"}, {"opt/a": "=> usr/x"})
    assert await taken(image, "/opt/a") == {"opt/a": "far"}
    damaged = await image_of(tmp_path, {"usr/y": "far"}, {"opt/a": "=> usr/x"})
    with pytest.raises(errors.ImageDamaged, match="/usr/x"):
        await taken(damaged, "/opt/a")


async def test_modes_are_those_of_a_folder_that_all_may_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, mode in (("a/tool", 0o4700), ("a/notes", 0o600)):
            info = tarfile.TarInfo(name)
            info.mode = mode
            archive.addfile(info)
        device = tarfile.TarInfo("a/null")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    image = await image_of(tmp_path, out.getvalue())
    found = await read_subtree(image, "/a", io.BytesIO(), lambda done, total: None)
    assert found is not None
    assert {(e.path, e.mode, e.owner) for e in found.entries("a", 7)} == {
        ("a/tool", 0o755, 7),
        ("a/notes", 0o644, 7),
    }


async def test_layers_below_what_was_found_are_not_read(tmp_path: Path) -> None:
    image = await image_of(tmp_path, b"no tar at all" * 100, {"opt/model": "weights"})
    assert await taken(image, "/opt/model") == {"opt/model": "weights"}
    with pytest.raises(errors.ImageDamaged):
        await taken(image, "/opt/other")


async def test_the_root_may_be_where_it_goes(tmp_path: Path) -> None:
    image = await image_of(tmp_path, {"out/": "", "out/usr/x": "x"})
    assert await taken(image, "/out", "") == {"usr": "folder", "usr/x": "x"}
