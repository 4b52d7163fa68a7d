from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.copied_images import CopiedPath
from gpuyard.building.result import BuildResult
from gpuyard.images.oci import Platform
from tests.unit.images.conftest import Workshop, debian_files

TOOLS = {
    "uv": "uv itself",
    "opt/models/": "",
    "opt/models/a.bin": "weights",
    "opt/models/current": "-> a.bin",
    "opt/models/licence": "-> /usr/share/licence",
}


class Tools:
    """A workshop with an image of tools, and builds that copy from it."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.image = f"oci:{workshop.folder / 'base'}:tools"

    async def build(self, *paths: str, **changes: object) -> BuildResult:
        copies = tuple(CopiedPath.parse(f"{self.image}:{path}") for path in paths)
        return await self.workshop.build(copies=copies, **changes)

    @property
    def lock(self) -> str:
        return (self.workshop.app / "gpuyard.lock").read_text()


@pytest.fixture
async def tools(workshop: Workshop) -> AsyncIterator[Tools]:
    await workshop.make_base(TOOLS, name="tools")
    yield Tools(workshop)


async def test_files_of_another_image_have_layers_below_the_application_s(tools: Tools) -> None:
    result = await tools.build("/uv:/usr/local/bin/", "/opt/models:/workspace/models", "/opt/models")
    (image,) = result.platforms.values()
    assert [title for title, _ in image.layers] == [
        f"/uv of {tools.image}",
        f"/opt/models of {tools.image}",
        f"/opt/models of {tools.image}",
        "application",
    ]
    program, inside, elsewhere = [await tools.workshop.layer(number) for number in (-4, -3, -2)]
    assert program["usr/local/bin/uv"][1] == b"uv itself"
    assert program["usr/local/bin/uv"][0].uid == 0
    assert inside["workspace/models/a.bin"][1] == b"weights"
    assert {inside[f"workspace/models{path}"][0].uid for path in ("", "/a.bin", "/current")} == {1000}
    assert inside["workspace/models/current"][0].linkname == "a.bin"
    assert elsewhere["opt/models"][0].uid == 0
    assert {info.mtime for info, _ in inside.values()} == {315532800}
    warnings = [text for text in tools.workshop.heard.said if "lead to what isn't copied" in text]
    assert len(warnings) == 2 and "/opt/models/licence → /usr/share/licence" in warnings[0]
    _, config = await tools.workshop.read()
    assert f"/uv of {tools.image}@sha256:" in config.history[-4].created_by


@pytest.mark.parametrize(
    ("destination", "owner"), [("/workspace/../srv/uv", 0), ("/srv/../workspace/uv", 1000), ("/ws/uv", 1000)]
)
async def test_who_owns_a_copy_is_told_by_where_it_ends_up(
    tools: Tools, destination: str, owner: int
) -> None:
    await tools.workshop.make_base(debian_files() | {"ws": "-> /workspace", "workspace/": ""})
    await tools.build(f"/uv:{destination}")
    (uv,) = [info for path, (info, _) in (await tools.workshop.layer(-2)).items() if path.endswith("/uv")]
    assert uv.uid == owner


async def test_the_image_is_locked_by_digest(tools: Tools) -> None:
    first = await tools.build("/uv")
    locked = tools.lock
    assert f'copied = {{ "{tools.image}" = "sha256:' in locked
    await tools.workshop.make_base({"uv": "newer"}, name="tools")
    assert not any("keeps to" in text for text in tools.workshop.heard.said)
    assert (await tools.build("/uv")).digest == first.digest
    assert tools.lock == locked
    before = locked.partition(f'"{tools.image}" = "sha256:')[2][:12]
    told = tools.workshop.heard.said[-1]
    assert told.startswith(f"gpuyard.lock keeps to {tools.image} as it was, {before}, and it is ")
    assert told.endswith(" now; --upgrade takes the newer one")
    await tools.build("/uv", upgrade=True)
    assert (await tools.workshop.layer(-2))["uv"][1] == b"newer"
    assert tools.image in tools.workshop.heard.said[-1] and " → " in tools.workshop.heard.said[-1]
    await tools.build()
    assert "copied" not in tools.lock


async def test_an_image_whose_digest_is_the_same_is_not_read_again(tools: Tools) -> None:
    first = await tools.build("/opt/models")
    layout = tools.workshop.folder / "base" / "blobs" / "sha256"
    # Whoever reads a layer now finds nothing.
    for blob in list(layout.iterdir()):
        blob.write_bytes(b"")
    (tools.workshop.app / "train.py").write_text("print('edited')\n")
    second = await tools.build("/opt/models")
    ours = [dict(next(iter(result.platforms.values())).layers) for result in (first, second)]
    title = f"/opt/models of {tools.image}"
    assert ours[0][title] == ours[1][title] and ours[0]["application"] != ours[1]["application"]


async def test_a_path_that_is_not_there_ends_the_build(tools: Tools) -> None:
    with pytest.raises(errors.BuildError, match="has no /opt/nothing"):
        await tools.build("/opt/nothing")
    with pytest.raises(errors.ImageNotFound, match=r"tools .*only for linux/amd64"):
        await tools.workshop.make_base(platform="linux/arm64")
        await tools.build("/uv", platforms=(Platform.parse("linux/arm64"),), upgrade=True)


async def test_the_same_copy_elsewhere_gives_the_same_image(tools: Tools, tmp_path: Path) -> None:
    first = await tools.build("/opt/models", "/uv:/usr/bin/uv")
    shutil.rmtree(tools.workshop.folder / "cache")
    shutil.rmtree(tools.workshop.folder / "out")
    second = await tools.build("/opt/models", "/uv:/usr/bin/uv")
    assert second.digest == first.digest and not second.unchanged


async def test_what_is_copied_goes_where_the_bases_links_lead(tools: Tools) -> None:
    await tools.build("/uv:/bin/")
    members = await tools.workshop.layer(-2)
    assert "usr/bin/uv" in members
    assert "bin" not in members
