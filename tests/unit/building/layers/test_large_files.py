from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.layers import large_files
from gpuyard.building.layers.large_files import ALONE_BYTES, MOST_ALONE, SHARED_BYTES, group_files
from gpuyard.building.result import BuildResult
from gpuyard.images.oci import Digest
from tests.unit.images.conftest import MakeWheel, Workshop, debian_files
from tests.unit.images.contents.test_subtree import image_of


def titles(result: BuildResult) -> list[str]:
    (image,) = result.platforms.values()
    return [title for title, _ in image.layers]


def blob(result: BuildResult, title: str) -> Digest:
    (image,) = result.platforms.values()
    return dict(image.layers)[title].blob.digest


def write_weights(workshop: Workshop) -> None:
    (workshop.app / "weights").mkdir()
    noise = random.Random(0)
    (workshop.app / "weights/model.pt").write_bytes(noise.randbytes(ALONE_BYTES + 1))
    (workshop.app / "weights/run.bin").write_bytes(noise.randbytes(SHARED_BYTES + 1))
    (workshop.app / "weights/run.bin").chmod(0o755)
    (workshop.app / "vocabulary.txt").write_bytes(noise.randbytes(SHARED_BYTES + 2))
    (workshop.app / "small.txt").write_bytes(noise.randbytes(SHARED_BYTES))


async def test_large_files_have_layers_below_the_application_s(workshop: Workshop) -> None:
    write_weights(workshop)
    result = await workshop.build()
    assert titles(result) == ["weights/model.pt", "2 large files", "application"]
    alone, shared, application = [await workshop.layer(number) for number in (-3, -2, -1)]
    place = "workspace/weights/model.pt"
    assert alone[place][1] == (workshop.app / "weights/model.pt").read_bytes()
    assert (alone[place][0].mode, shared["workspace/weights/run.bin"][0].mode) == (0o644, 0o755)
    assert "workspace/vocabulary.txt" in shared
    assert "workspace/small.txt" in application
    assert not {place, "workspace/weights/run.bin", "workspace/vocabulary.txt"} & application.keys()
    for members in (alone, shared, application):
        assert list(members) == sorted(members)
        assert members["workspace"][0].uid == 1000
    assert alone["workspace/weights"][0].uid == 1000
    _, config = await workshop.read()
    history = [entry.created_by for entry in config.history][-2]
    assert history == "gpuyard build: vocabulary.txt, weights/run.bin"


async def test_an_edit_sends_the_application_s_layer_alone(workshop: Workshop) -> None:
    write_weights(workshop)
    first = await workshop.build()
    before = set((workshop.folder / "out/blobs/sha256").iterdir())
    (workshop.app / "train.py").write_text("print('edited')\n")
    second = await workshop.build()
    new = set((workshop.folder / "out/blobs/sha256").iterdir()) - before
    assert blob(second, "application") != blob(first, "application")
    assert blob(second, "weights/model.pt") == blob(first, "weights/model.pt")
    assert sum(path.stat().st_size for path in new) < 2 * SHARED_BYTES


async def test_a_change_in_a_large_file_is_shipped_though_its_time_is_set_back(workshop: Workshop) -> None:
    write_weights(workshop)
    model = workshop.app / "weights/model.pt"
    stamp = model.stat().st_mtime_ns
    first = await workshop.build()
    with model.open("r+b") as file:
        file.write(b"changed")
    os.utime(model, ns=(stamp, stamp))
    second = await workshop.build()
    assert second.digest != first.digest
    assert (await workshop.layer(-3))["workspace/weights/model.pt"][1].startswith(b"changed")
    assert blob(second, "2 large files") == blob(first, "2 large files")


async def test_the_same_files_elsewhere_give_the_same_layers(workshop: Workshop, tmp_path: Path) -> None:
    write_weights(workshop)
    first = await workshop.build()
    (workshop.app / "weights/model.pt").touch()
    workshop.app.rename(tmp_path / "moved")
    second = await workshop.build(root=tmp_path / "moved")
    assert second.digest == first.digest and second.unchanged


async def test_the_mode_of_a_large_file_counts(workshop: Workshop) -> None:
    write_weights(workshop)
    await workshop.build()
    (workshop.app / "weights/model.pt").chmod(0o755)
    await workshop.build()
    assert (await workshop.layer(-3))["workspace/weights/model.pt"][0].mode == 0o755


async def test_a_file_that_is_another_when_it_is_packed_ends_the_build(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_weights(workshop)
    prepare = large_files.LargeFileLayer.prepare

    async def meanwhile(layer: large_files.LargeFileLayer) -> None:
        with (workshop.app / "weights/model.pt").open("r+b") as file:
            file.write(b"changed")
        await prepare(layer)

    monkeypatch.setattr(large_files.LargeFileLayer, "prepare", meanwhile)
    with pytest.raises(errors.BuildError, match=r"model\.pt changed while the image was built"):
        await workshop.build()
    monkeypatch.undo()
    await workshop.build()
    assert (await workshop.layer(-3))["workspace/weights/model.pt"][1].startswith(b"changed")


async def test_large_files_leave_layers_to_wheels_and_the_other_way(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    write_weights(workshop)
    make_wheel("demo")
    result = await workshop.build(requirements=workshop.require("demo"))
    assert titles(result) == ["demo 1.0", "weights/model.pt", "2 large files", "application"]


def test_which_files_share_a_layer_depends_on_sizes_and_on_the_layers_left() -> None:
    big, medium = ALONE_BYTES + 1, SHARED_BYTES + 1
    sizes = {"c": big, "a": medium, "b": big + 1, "d": medium}
    assert group_files(sizes, 100) == [("b",), ("c",), ("a", "d")]
    assert group_files(sizes, 2) == [("b",), ("a", "c", "d")]
    assert group_files(sizes, 1) == [("a", "b", "c", "d")]
    assert group_files(sizes, 0) == []
    assert group_files({}, 100) == []
    many = {f"{number:03}": big for number in range(MOST_ALONE + 5)}
    assert [len(group) for group in group_files(many, 100)] == [1] * MOST_ALONE + [5]


@pytest.mark.parametrize(("below", "files", "wheels"), [(120, 5, 1), (123, 2, 1), (124, 1, 1), (125, 0, 1)])
async def test_an_image_never_has_more_layers_than_runtimes_mount(
    workshop: Workshop, tmp_path: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch,
    below: int, files: int, wheels: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(large_files, "ALONE_BYTES", SHARED_BYTES)
    for number in range(6):
        (workshop.app / f"{number}.bin").write_bytes(bytes(SHARED_BYTES + 1 + number))
        make_wheel(f"demo{number}")
    await image_of(tmp_path, debian_files(), *({f"layer{number}": ""} for number in range(below - 1)))
    base = f"oci:{tmp_path / 'layout'}:v1"
    requirements = workshop.require(*(f"demo{number}" for number in range(6)))
    result = await workshop.build(base=base, requirements=requirements)
    assert len(titles(result)) == files + wheels + 1
    assert len((await workshop.read())[0].layers) <= 127


async def test_a_base_that_leaves_no_room_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    await image_of(tmp_path, debian_files(), *({f"layer{number}": ""} for number in range(125)))
    with pytest.raises(errors.BuildError, match="126 layers, and an image can have 127"):
        await workshop.build(base=f"oci:{tmp_path / 'layout'}:v1")
