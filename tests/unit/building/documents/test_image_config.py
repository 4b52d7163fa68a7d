"""What a built image's config says of variables, labels, and how a container starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuyard.building.environment import ENTRYPOINT
from gpuyard.images.oci import OCI_CONFIG, OCI_MANIFEST, Descriptor
from gpuyard.images.places import Places
from gpuyard.images.store import ImageStore
from tests.unit.images.conftest import Workshop

_NGC = "/opt/nvidia/nvidia_entrypoint.sh"


async def change_base(workshop: Workshop, **container: object) -> None:
    """Gives the base's config other fields."""
    manifest, config = await workshop.read(workshop.base)
    content = replace(config, container=replace(config.container, **container)).to_bytes()  # type: ignore[arg-type]
    async with Places({}) as places:
        place = await places.open(workshop.base, write=True)
        described = Descriptor.for_bytes(OCI_CONFIG, content)
        await _put(place.store, described, content)
        changed = replace(manifest, config=described).to_bytes()
        await place.store.put_manifest(changed, OCI_MANIFEST, place.tag)


async def _put(store: ImageStore, blob: Descriptor, content: bytes) -> None:
    async with store.start_upload() as upload:
        await upload.write(content)
        await upload.commit(blob.digest)


async def test_variables_and_labels_are_laid_over_the_bases(workshop: Workshop) -> None:
    await change_base(
        workshop,
        env=("PATH=/base/bin:/usr/bin", "LANG=C", "LD_LIBRARY_PATH=/base/lib"),
        labels={"maintainer": "them", "a": "1"},
    )
    await workshop.build(
        env={
            "LANG": "C.UTF-8",
            "EMPTY": "",
            "PATH": "/opt/tool/bin:${PATH}",
            "LD_LIBRARY_PATH": "/opt/lib:${LD_LIBRARY_PATH}",
            "NEW": "x${NEW}",
        },
        labels={"a": "2", "org.opencontainers.image.source": "https://git.example/a b"},
    )
    manifest, config = await workshop.read()
    environment = config.container.environment
    assert environment["LANG"] == "C.UTF-8" and environment["EMPTY"] == "" and environment["NEW"] == "x"
    assert environment["PATH"] == "/opt/gpuyard/venv/bin:/opt/tool/bin:/base/bin:/usr/bin"
    assert environment["LD_LIBRARY_PATH"] == "/opt/lib:/base/lib"
    labels = config.container.labels
    assert (labels["maintainer"], labels["a"]) == ("them", "2")
    assert labels["org.opencontainers.image.source"] == "https://git.example/a b"
    # As with `docker build --label`: the manifest's annotations are another thing.
    assert "org.opencontainers.image.source" not in manifest.annotations


async def test_a_base_of_ours_gives_the_same_path(workshop: Workshop) -> None:
    await workshop.build(env={"A": "1"})
    once = (await workshop.read())[1].container
    await workshop.build(base=workshop.target, target=f"oci:{workshop.folder / 'second'}:v1")
    again = (await workshop.read(f"oci:{workshop.folder / 'second'}:v1"))[1].container
    assert (again.env, again.entrypoint, again.cmd) == (once.env, once.entrypoint, once.cmd)


@pytest.mark.parametrize("change", [{"env": {"A": "2"}}, {"labels": {"b": "2"}}])
async def test_another_value_is_another_digest(workshop: Workshop, change: dict[str, object]) -> None:
    first = await workshop.build(env={"A": "1"}, labels={"b": "1"})
    assert (await workshop.build(env={"A": "1"}, labels={"b": "1"})).unchanged
    second = await workshop.build(**({"env": {"A": "1"}, "labels": {"b": "1"}} | change))
    assert first.digest != second.digest and not second.unchanged
    assert first.platforms["linux/amd64"].layers == second.platforms["linux/amd64"].layers


async def test_a_wrapper_of_the_base_comes_before_the_launcher(workshop: Workshop) -> None:
    await change_base(workshop, entrypoint=(_NGC,), cmd=())
    result = await workshop.build()
    container = (await workshop.read())[1].container
    assert (container.entrypoint, container.cmd) == ((_NGC, *ENTRYPOINT), ("python",))
    assert result.entrypoint == container.entrypoint
    assert not [words for words in workshop.heard.said if "entry point" in words]


async def test_what_becomes_of_the_bases_program_is_said_once(workshop: Workshop) -> None:
    await change_base(workshop, entrypoint=("python3", "-m", "server"), cmd=("--port", "80"))
    await workshop.build()
    container = (await workshop.read())[1].container
    assert (container.entrypoint, container.cmd) == (ENTRYPOINT, ("python",))
    [words] = [words for words in workshop.heard.said if "entry point" in words]
    assert "`python3 -m server` and its arguments `--port 80`" in words
    workshop.heard.said.clear()
    (workshop.app / "more.py").write_text("")
    await workshop.build()
    assert not [words for words in workshop.heard.said if "entry point" in words]


async def test_locked_wheels_come_before_the_bases_pythonpath(workshop: Workshop) -> None:
    site = "/opt/gpuyard/venv/lib/python3.11/site-packages"

    async def built(target: str, **changes: object) -> str | None:
        await workshop.build(target=target, **changes)
        return (await workshop.read(target))[1].container.environment.get("PYTHONPATH")

    assert await built(workshop.target) is None
    await change_base(workshop, env=("PATH=/usr/bin", "PYTHONPATH=/opt/spark/python:/opt/spark/py4j.zip"))
    expected = f"{site}:/opt/spark/python:/opt/spark/py4j.zip"
    assert await built(workshop.target, upgrade=True) == expected
    # It is the same on a base of ours; whoever sets it himself may have his own code first.
    again = f"oci:{workshop.folder / 'again'}:v1"
    assert await built(again, base=workshop.target) == expected
    assert (
        await built(again, base=workshop.target, env={"PYTHONPATH": "/mine:${PYTHONPATH}"})
        == f"/mine:{expected}"
    )
