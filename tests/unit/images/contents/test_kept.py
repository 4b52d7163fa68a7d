from __future__ import annotations

from gpuyard.images.contents.kept import _SYSTEM, kept_contents, read_contents, read_system
from gpuyard.images.image import Image, open_images
from gpuyard.images.places import Places
from tests.unit.images.conftest import Files, Workshop, debian_files
from tests.unit.images.elf_files import make_elf


class Reading:
    """Whether layers are read."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, done: int, total: int) -> None:
        self.times += done == total


async def open_base(workshop: Workshop, places: Places) -> Image:
    place = await places.open(workshop.base)
    (image,) = (await open_images(place, None, called="base")).images
    return image


async def test_one_reading_of_the_layers_serves_all_that_is_asked(workshop: Workshop) -> None:
    reading = Reading()
    async with Places({}) as places:
        image = await open_base(workshop, places)
        contents = await read_contents(image, workshop.cache, reading)
        system = await read_system(image, workshop.cache, reading)
        assert (await read_contents(image, workshop.cache, reading)).folders == contents.folders
        assert reading.times == 1
    assert contents.folders.links == {"bin": "usr/bin"}
    assert system.requires == {"pyyaml": ()}


async def test_an_entry_of_before_is_not_misread(workshop: Workshop) -> None:
    reading = Reading()
    async with Places({}) as places:
        image = await open_base(workshop, places)
        old: dict[str, object] = {
            "python": None,
            "packages": {},
            "libc": "",
            "libc_version": [0, 0],
            "passwd": "",
            "torch": None,
        }
        for kind in ("base-contents-2", "base-contents-3", "base-contents-4"):
            workshop.cache.write(kind, f"{image.digest[7:]}.json", old)
        workshop.cache.write("base-system-1", f"{image.digest[7:]}.json", {"files": {"etc/passwd": 1}})
        assert kept_contents(image.digest, workshop.cache) is None
        assert (await read_contents(image, workshop.cache, reading)).python is not None
        assert (await read_system(image, workshop.cache, reading)).requires == {"pyyaml": ()}
        assert reading.times == 1
        workshop.cache.write(_SYSTEM, f"{image.digest[7:]}.json", {"files": {"etc/passwd": 1}})
        assert (await read_system(image, workshop.cache, reading)).requires == {"pyyaml": ()}
        assert reading.times == 2


async def test_names_that_are_no_text_do_not_end_the_reading(workshop: Workshop) -> None:
    odd = "caf\udce9"
    files: Files = {
        f"srv/{odd}": "-> /data",
        f"srv/{odd}.bin": "x",
        f"usr/lib/lib{odd}.so.1": make_elf("libodd.so.1"),
        "usr/lib/libodd.so": f"-> lib{odd}.so.1",
        f"etc/apt/sources.list.d/{odd}.list": "deb http://x y z\n",
        "srv/ws": "-> /data",
    }
    await workshop.make_base({**debian_files(), **files})
    async with Places({}) as places:
        image = await open_base(workshop, places)
        contents = await read_contents(image, workshop.cache, Reading())
        assert contents.folders.links == {"bin": "usr/bin", "srv/ws": "data"}
        assert (await read_system(image, workshop.cache, Reading())).library_links == {}
