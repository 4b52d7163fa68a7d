from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gpuyard import errors
from gpuyard.building.environment import PREFIX
from gpuyard.building.image_summary import summarise
from gpuyard.building.layers.wheel_layers import group_wheels
from gpuyard.building.python import wheels
from gpuyard.building.python.wheels import Wheel
from gpuyard.building.request import Keeping
from gpuyard.building.workdir.application import LARGE_BYTES
from gpuyard.images.contents import kept
from gpuyard.images.contents.torch import LABELS, Installed, Torch
from gpuyard.images.layers import compression
from gpuyard.images.oci import Platform
from gpuyard.images.places import Places
from gpuyard.images.store import read_blob
from tests.unit.building.test_revision import git_commit
from tests.unit.building.workdir.test_secret_contents import checked
from tests.unit.images.conftest import Files, MakeWheel, Workshop, debian_files

SITE = f"{PREFIX.strip('/')}/lib/python3.11/site-packages"


async def test_an_image_is_the_base_and_the_application(workshop: Workshop) -> None:
    result = await workshop.build()
    manifest, config = await workshop.read()
    base, base_config = await workshop.read(workshop.base)
    assert [layer.digest for layer in manifest.layers[:-1]] == [layer.digest for layer in base.layers]
    assert config.diff_ids[:-1] == base_config.diff_ids
    assert len([entry for entry in config.history if not entry.empty_layer]) == len(manifest.layers)
    assert result.tag == workshop.target
    members = await workshop.layer(-1)
    assert members["workspace/train.py"][1] == b"print('hello')\n"
    assert "main(" in members["opt/gpuyard/launcher.py"][1].decode()


async def test_the_config_starts_the_launcher_as_a_user_with_a_home(workshop: Workshop) -> None:
    await workshop.build(workdir="/srv/code")
    _, config = await workshop.read()
    container = config.container
    assert container.entrypoint == (f"{PREFIX}/bin/python", "/opt/gpuyard/launcher.py", "--")
    assert container.user == "1000:1000"
    assert container.working_dir == "/srv/code"
    environment = container.environment
    assert environment["PATH"].startswith(f"{PREFIX}/bin:")
    assert (environment["HOME"], environment["USER"], environment["LOGNAME"]) == (
        "/home/gpuyard",
        "gpuyard",
        "gpuyard",
    )
    members = await workshop.layer(-1)
    for writable in ("srv/code", "home/gpuyard"):
        assert (members[writable][0].uid, members[writable][0].mode) == (1000, 0o755)
    assert members["tmp"][0].mode == 0o1777
    assert members["srv"][0].uid == 0
    assert members[f"{PREFIX.strip('/')}/bin/python"][0].linkname == "/usr/bin/python3.11"
    assert b"gpuyard:x:1000:1000" in members["etc/passwd"][1]
    cfg = members[f"{PREFIX.strip('/')}/pyvenv.cfg"][1].decode()
    assert "home = /usr/bin\n" in cfg and "include-system-site-packages = true" in cfg


async def test_the_command_is_the_one_asked_for_else_the_bases(workshop: Workshop) -> None:
    await workshop.build()
    _, config = await workshop.read()
    assert config.container.cmd == ("/bin/sh",)
    assert not (await workshop.build(command=("python", "serve.py"))).unchanged
    _, config = await workshop.read()
    assert config.container.cmd == ("python", "serve.py")


async def test_files_are_sorted_the_users_own_and_dated_alike(workshop: Workshop) -> None:
    (workshop.app / "pkg").mkdir()
    (workshop.app / "pkg" / "b.py").write_text("")
    (workshop.app / "run.sh").write_text("")
    (workshop.app / "run.sh").chmod(0o700)
    await workshop.build()
    members = await workshop.layer(-1)
    assert list(members) == sorted(members)
    assert {info.mtime for info, _ in members.values()} == {315532800}
    assert {info.uname + info.gname for info, _ in members.values()} == {""}
    owners = {name: (info.uid, info.gid) for name, (info, _) in members.items()}
    assert {owners[name] for name in owners if name.startswith("workspace")} == {(1000, 1000)}
    assert {owners[name] for name in owners if name.startswith("opt")} == {(0, 0)}
    assert members["workspace/run.sh"][0].mode == 0o755
    assert members["workspace/pkg/b.py"][0].mode == 0o644
    assert members["workspace/pkg"][0].uid == 1000


async def test_another_folder_clock_and_umask_give_the_same_digest(
    workshop: Workshop, tmp_path: Path, make_wheel: MakeWheel, umask: Callable[[int], object]
) -> None:
    make_wheel("demo", files={"demo/__init__.py": "x = {'a', 'b'}\n"})
    (workshop.app / "data").mkdir()
    (workshop.app / "data" / "b.txt").write_text("b")
    first = await workshop.build(requirements=workshop.require("demo"))

    umask(0o077)
    other = Workshop(tmp_path / "elsewhere")
    other.folder.mkdir()
    shutil.copytree(tmp_path / "wheels", other.folder / "wheels")
    shutil.copytree(workshop.folder / "base", other.folder / "base")
    other.app.mkdir()
    other.offer_wheels()
    (other.app / "data").mkdir()
    for path in ("data/b.txt", "train.py", "gpuyard.lock"):
        (other.app / path).write_bytes((workshop.app / path).read_bytes())
        os.utime(other.app / path, (1, 1))
    lock = (other.app / "gpuyard.lock").read_text()
    assert str(tmp_path / "base") in lock
    (other.app / "gpuyard.lock").write_text(lock)
    second = await other.build(base=workshop.base, requirements=other.require("demo"))
    assert second.digest == first.digest


async def test_the_folder_of_a_base_in_a_layout_is_no_part_of_the_image(workshop: Workshop) -> None:
    first = await workshop.build(base_name="oci:base:12")
    moved = workshop.folder / "elsewhere"
    shutil.copytree(workshop.folder / "base", moved)
    lock = (workshop.app / "gpuyard.lock").read_text()
    assert 'base = "oci:base:12"' in lock
    second = await workshop.build(base=f"oci:{moved}:12", base_name="oci:base:12")
    assert second.digest == first.digest
    assert (workshop.app / "gpuyard.lock").read_text() == lock


async def test_source_date_epoch_dates_everything(workshop: Workshop) -> None:
    await workshop.build(created=1_700_000_000)
    manifest, config = await workshop.read()
    assert config.created == "2023-11-14T22:13:20Z"
    assert manifest.annotations["org.opencontainers.image.created"] == config.created
    assert {info.mtime for info, _ in (await workshop.layer(-1)).values()} == {1_700_000_000}


async def test_annotations_name_base_and_compressor(workshop: Workshop) -> None:
    await workshop.build()
    manifest, _ = await workshop.read()
    found = manifest.annotations
    async with Places({}) as places:
        place = await places.open(workshop.base)
        base = await place.store.find_manifest(place.target)
    assert base is not None
    assert found["org.opencontainers.image.base.name"] == workshop.base
    assert found["org.opencontainers.image.base.digest"] == base.digest
    assert found["io.gpuyard.compression"] == compression().name


async def test_files_go_where_the_bases_links_lead(workshop: Workshop) -> None:
    files = debian_files() | {
        "workspace": "-> /data/ws",
        "data/ws/old.txt": "",
        "home": "-> var/home",
        "opt": "-> o",
    }
    await workshop.make_base(
        files | {"etc/passwd": "-> static/passwd", "etc/static/passwd": "root:x:0:0::/:/bin/sh"}
    )
    await workshop.build()
    _, config = await workshop.read()
    assert config.container.working_dir == "/workspace"
    members = await workshop.layer(-1)
    assert members["data/ws/train.py"][1] == b"print('hello')\n"
    assert members["data/ws"][0].uid == members["var/home/gpuyard"][0].uid == 1000
    assert b"gpuyard:x:1000" in members["etc/static/passwd"][1]
    assert "o/gpuyard/launcher.py" in members
    assert not {"workspace", "home", "opt", "bin", "etc/passwd"} & members.keys()


async def test_wheels_follow_the_bases_links_too(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo")
    requirements = workshop.require("demo")
    plain = await workshop.build(requirements=requirements)
    await workshop.make_base(debian_files() | {"opt": "-> var/opt"}, name="13")
    base = workshop.base.removesuffix(":12") + ":13"
    linked = await workshop.build(requirements=requirements, base=base)
    wheels, again = (result.platforms["linux/amd64"].layers[0] for result in (plain, linked))
    assert wheels[1] != again[1]
    members = await workshop.layer(-2)
    assert f"var/{SITE}/demo/__init__.py" in members
    assert "opt" not in members


#: Of python:3.12-alpine: no glibc, busybox for a shell (docker-library/python, 3.12/alpine3.22/Dockerfile).
ALPINE: Files = {
    "lib/ld-musl-x86_64.so.1": b"\x7fELF",
    "bin/sh": "-> /bin/busybox",
    "bin/busybox": b"\x7fELF",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "usr/local/bin/python3": "-> python3.12",
    "usr/local/bin/python3.12": b"\x7fELF",
    "usr/local/lib/python3.12/site-packages/pip-25.dist-info/METADATA": "Name: pip\nVersion: 25\n",
}


async def test_alpine_gets_wheels_for_its_c_library(workshop: Workshop, make_wheel: MakeWheel) -> None:
    for tag in ("manylinux_2_17_x86_64", "musllinux_1_1_x86_64"):
        make_wheel("demo", tag=f"cp312-cp312-{tag}")
    await workshop.make_base(ALPINE)
    result = await workshop.build(requirements=workshop.require("demo"))
    assert "musllinux" in (workshop.app / "gpuyard.lock").read_text()
    assert [title for title, _ in result.platforms["linux/amd64"].layers] == ["demo 1.0", "application"]
    members = await workshop.layer(-1)
    assert members[f"{PREFIX.strip('/')}/bin/python"][0].linkname == "/usr/local/bin/python3.12"
    assert b"gpuyard:x:1000:1000" in members["etc/passwd"][1]


async def test_alpine_has_no_wheels_of_what_is_made_for_glibc_alone(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("torch", tag="cp312-cp312-manylinux_2_28_x86_64")
    await workshop.make_base(ALPINE)
    with pytest.raises(errors.ResolveError) as caught:
        await workshop.build(requirements=workshop.require("torch"))
    assert "the base is Alpine, or another with musl" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("files", "workdir", "words"),
    [
        ({"workspace": "-> etc", "etc/x": ""}, "/workspace", "workdir /workspace is /etc in the base"),
        ({}, "/bin", "the workdir /bin is /usr/bin in the base, which belongs to the system"),
        ({"w": "-> v", "v": "-> w"}, "/w", "/w is a link that leads in a circle in the base oci:"),
        (
            {"w": "-> srv/model.bin", "srv/model.bin": "x"},
            "/w",
            "/w is a file, or a link to one in the base oci:",
        ),
    ],
)
async def test_a_base_without_room_for_the_workdir_is_refused_before_anything_is_resolved(
    workshop: Workshop, files: Files, workdir: str, words: str
) -> None:
    await workshop.make_base({**debian_files(), **files})
    with pytest.raises(errors.UsageError, match=words):
        await workshop.build(workdir=workdir, requirements=workshop.require("not-there"))
    assert not (workshop.app / "gpuyard.lock").exists()


async def test_a_second_build_sends_nothing(workshop: Workshop) -> None:
    first = await workshop.build()
    blobs = sorted((workshop.folder / "out/blobs/sha256").iterdir())
    second = await workshop.build()
    assert second.unchanged and not first.unchanged
    assert second.digest == first.digest
    assert sorted((workshop.folder / "out/blobs/sha256").iterdir()) == blobs


async def test_what_is_said_of_files_is_said_once_and_layers_that_were_there_are_known(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("demo")
    requirements = workshop.require("demo")
    (workshop.app / ".dockerignore").write_text("gone\n")
    with (workshop.app / "large.bin").open("wb") as file:
        file.truncate(LARGE_BYTES + 1)

    def said() -> list[str]:
        texts = [text for text in workshop.heard.said if "large files" in text or "stays out" in text]
        workshop.heard.said.clear()
        return texts

    (image,) = (await workshop.build(requirements=requirements)).platforms.values()
    assert not image.present
    assert len(said()) == 2
    (workshop.app / "train.py").write_text("print('other')\n")
    (image,) = (await workshop.build(requirements=requirements)).platforms.values()
    assert not said()
    new = [title for title, layer in image.layers if layer.blob.digest not in image.present]
    assert len(new) == 1 < len(image.layers)
    with (workshop.app / "more.bin").open("wb") as file:
        file.truncate(LARGE_BYTES + 1)
    await workshop.build(requirements=requirements)
    (text,) = said()
    assert "more.bin" in text


@pytest.mark.parametrize("lost", ["layers", "config", "manifest", "base"])
@pytest.mark.parametrize("left", [None, b"short"], ids=["gone", "cut short"])
async def test_a_layout_that_lost_something_gets_it_again(
    workshop: Workshop, make_wheel: MakeWheel, lost: str, left: bytes | None
) -> None:
    make_wheel("demo")
    requirements = workshop.require("demo")
    elsewhere = f"oci:{workshop.folder / 'more'}:v1"
    first = await workshop.build(requirements=requirements, tags=(elsewhere,))
    manifest, _ = await workshop.read()
    (image,) = first.platforms.values()
    digests = {
        "layers": [layer.blob.digest for _, layer in image.layers],
        "config": [manifest.config.digest],
        "manifest": [first.digest],
        "base": [manifest.layers[0].digest],
    }[lost]
    paths = [
        workshop.folder / where / "blobs/sha256" / digest[7:]
        for digest in digests
        for where in ("out", "more")
    ]
    before = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
        if left is not None:
            path.write_bytes(left)
    second = await workshop.build(requirements=requirements, tags=(elsewhere,))
    assert (second.digest, second.unchanged) == (first.digest, False)
    assert [path.read_bytes() for path in paths] == before


async def test_another_compiler_of_byte_code_than_where_it_was_locked_is_said(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("demo")
    requirements = workshop.require("demo")
    first = await workshop.build(requirements=requirements)
    lock = workshop.app / "gpuyard.lock"
    here = f"cpython {sys.version.split()[0]}"
    assert f'byte-code = "{here}"\n' in lock.read_text()
    workshop.heard.said.clear()
    await workshop.build(requirements=requirements)
    assert workshop.heard.said == []

    lock.write_text(lock.read_text().replace(here, "cpython 3.11.999"))
    again = await workshop.build(requirements=requirements)
    (said,) = workshop.heard.said
    assert "by cpython 3.11.999, and here it is by " + here in said
    assert again.digest == first.digest
    workshop.heard.said.clear()
    await workshop.build(requirements=requirements, byte_code=False)
    assert workshop.heard.said == []


async def test_wheels_are_installed_with_scripts_and_byte_code(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("demo", entry_points="[console_scripts]\nhello = demo:main\n")
    result = await workshop.build(requirements=workshop.require("demo"))
    (image,) = result.platforms.values()
    assert [title for title, _ in image.layers] == ["demo 1.0", "application"]
    members = await workshop.layer(-2)
    assert members[f"{SITE}/demo/__init__.py"][1] == b"x = 1\n"
    pyc = members[f"{SITE}/demo/__pycache__/__init__.cpython-311.pyc"][1]
    assert pyc[4:8] == b"\x01\x00\x00\x00", "hash-based, unchecked"
    script, content = members[f"{PREFIX.strip('/')}/bin/hello"]
    assert script.mode == 0o755
    assert content.startswith(f"#!{PREFIX}/bin/python\n".encode())
    assert list(members) == sorted(members)
    lock = (workshop.app / "gpuyard.lock").read_text()
    assert 'file = "demo-1.0-py3-none-any.whl"' in lock
    assert str(workshop.folder / "wheels") not in lock


async def test_what_the_base_brings_is_not_installed_again(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo", requires=("pyyaml",))
    make_wheel("pyyaml", "7.0")
    await workshop.build(requirements=workshop.require("demo", "PyYAML>=5"))
    lock = (workshop.app / "gpuyard.lock").read_text()
    assert "pyyaml-7.0" not in lock
    assert 'from-base = { "pyyaml" = "6.0" }' in lock
    assert any("pyyaml 6.0 comes with the base" in text for text in workshop.heard.said)


async def test_what_the_base_brings_too_old_is_installed(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("pyyaml", "7.0", {"yaml/__init__.py": ""})
    await workshop.build(requirements=workshop.require("pyyaml>=7"))
    assert "pyyaml-7.0" in (workshop.app / "gpuyard.lock").read_text()


async def test_the_lock_holds_until_it_is_told_otherwise(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo", "1.0")
    requirements = workshop.require("demo")
    await workshop.build(requirements=requirements)
    make_wheel("demo", "2.0")
    shutil.rmtree(workshop.folder / "cache")
    await workshop.build(requirements=requirements)
    assert "demo-1.0" in (workshop.app / "gpuyard.lock").read_text()
    workshop.heard.said.clear()

    workshop.require("demo", "pyyaml")
    await workshop.build(requirements=requirements)
    assert "demo-1.0" in (workshop.app / "gpuyard.lock").read_text(), "a change elsewhere keeps versions"
    assert "the requirements changed" in workshop.heard.said[-1]

    await workshop.build(requirements=requirements, upgrade=True)
    assert "demo-2.0" in (workshop.app / "gpuyard.lock").read_text()
    assert "demo 1.0 → 2.0" in workshop.heard.said[-1]


async def test_the_base_stays_as_locked_when_its_tag_moves(workshop: Workshop) -> None:
    await workshop.build()
    before, _ = await workshop.read()
    await workshop.make_base(debian_files() | {"etc/issue": "new\n"})
    await workshop.build()
    after, _ = await workshop.read()
    assert after.layers[0] == before.layers[0]
    await workshop.build(upgrade=True)
    upgraded, _ = await workshop.read()
    assert upgraded.layers[0] != before.layers[0]


async def test_the_sbom_is_attached(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo")
    result = await workshop.build(requirements=workshop.require("demo"))
    async with Places({}) as places:
        place = await places.open(workshop.target)
        (referrer,) = await place.store.referrers(result.digest)
        assert referrer.artifact_type == "application/vnd.cyclonedx+json"
        _, content = await place.store.get_manifest(referrer.digest)
        layer = orjson.loads(content)["layers"][0]
        from gpuyard.images.oci import Descriptor

        sbom = orjson.loads(await read_blob(place.store, Descriptor.of(layer)))
    assert sbom["bomFormat"] == "CycloneDX"
    purls = [component.get("purl") for component in sbom["components"]]
    assert "pkg:pypi/demo@1.0" in purls and "pkg:pypi/pyyaml@6.0" in purls


async def test_several_platforms_make_an_index(workshop: Workshop) -> None:
    from gpuyard.images.oci import Index, Platform, parse_manifest

    await workshop.make_base(platform="linux/arm64", name="arm")
    async with Places({}) as places:
        place = await places.open(workshop.base, write=True)
        entries = []
        for tag, name in (("12", "linux/amd64"), ("arm", "linux/arm64")):
            found = await place.store.find_manifest(tag)
            assert found is not None
            entries.append(replace(found, platform=Platform.parse(name)))
        await place.store.put_manifest(
            Index(tuple(entries)).to_bytes(), "application/vnd.oci.image.index.v1+json", "both"
        )
    platforms = (Platform.parse("linux/amd64"), Platform.parse("linux/arm64"))
    commit = git_commit(workshop.app)
    result = await workshop.build(base=workshop.base.replace(":12", ":both"), platforms=platforms)
    async with Places({}) as places:
        place = await places.open(workshop.target)
        found, content = await place.store.get_manifest(place.target)
        index = parse_manifest(content, found.media_type)
        assert [image.revision for image in await summarise(place)] == [commit, commit]
    assert isinstance(index, Index)
    assert tuple(manifest.platform for manifest in index.manifests) == platforms
    assert found.digest == result.digest
    lock = (workshop.app / "gpuyard.lock").read_text()
    assert 'name = "linux/amd64"' in lock and 'name = "linux/arm64"' in lock


async def test_a_base_of_another_architecture_is_refused(workshop: Workshop) -> None:
    from gpuyard.images.oci import Platform

    with pytest.raises(errors.ImageNotFound, match="only for linux/amd64") as caught:
        await workshop.build(platforms=(Platform.parse("linux/arm64"),))
    assert "--platform" in caught.value.remedy
    assert not (workshop.app / "gpuyard.lock").exists()


async def test_a_base_without_python_is_refused(workshop: Workshop) -> None:
    await workshop.make_base({"etc/issue": "bare\n"})
    with pytest.raises(errors.BuildError, match="no Python"):
        await workshop.build()


async def test_what_cannot_be_resolved_gives_uvs_own_reason(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("demo", requires=("nowhere-to-be-found>=3",))
    await workshop.build()
    before, _ = await workshop.read()
    lock = (workshop.app / "gpuyard.lock").read_text()
    with pytest.raises(errors.ResolveError, match="nowhere-to-be-found"):
        await workshop.build(requirements=workshop.require("demo"))
    assert (await workshop.read())[0] == before
    assert (workshop.app / "gpuyard.lock").read_text() == lock


async def test_a_wheel_that_was_changed_is_refused(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo")
    requirements = workshop.require("demo")
    await workshop.build(requirements=requirements)
    shutil.rmtree(workshop.folder / "cache")
    make_wheel("demo", files={"demo/__init__.py": "evil = 1\n"})
    before, _ = await workshop.read()
    target = workshop.target.replace("out", "other")
    with pytest.raises(errors.BuildError, match="is not the file that was locked"):
        await workshop.build(requirements=requirements, target=target, keeping=Keeping.FROZEN)
    assert (await workshop.read())[0] == before


async def test_a_wheel_with_another_hash_than_the_requirements_give_is_refused(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    sha256 = hashlib.sha256(make_wheel("demo").read_bytes()).hexdigest()
    with pytest.raises(errors.BuildError, match="none of the hashes"):
        await workshop.build(requirements=workshop.require(f"demo==1.0 \\\n    --hash=sha256:{'0' * 64}"))
    with pytest.raises(errors.BuildError, match="none of the hashes"):
        await workshop.build(requirements=workshop.require(f"demo==1.0 --hash=sha512:{'0' * 128}"))
    assert not (workshop.app / "gpuyard.lock").exists()
    hashes = f"--hash=sha256:{'0' * 64} --hash=sha256:{sha256.upper()}"
    await workshop.build(requirements=workshop.require(f"demo==1.0 {hashes}"))
    assert sha256 in (workshop.app / "gpuyard.lock").read_text()


async def test_an_archive_in_the_workdir_does_not_go_into_itself(workshop: Workshop) -> None:
    target = f"oci-archive:{workshop.app / 'out.tar'}:v1"
    first = await workshop.build(target=target)
    assert (await workshop.build(target=target)).digest == first.digest


async def test_a_locked_wheel_without_a_hash_is_refused(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo")
    requirements = workshop.require("demo")
    await workshop.build(requirements=requirements)
    lock = workshop.app / "gpuyard.lock"
    text = lock.read_text()
    start = text.index("sha256 = ")
    lock.write_text(text[:start] + 'sha256 = ""' + text[text.index(" }", start) :])
    with pytest.raises(errors.UsageError, match="no sha256 hash"):
        await workshop.build(requirements=requirements)


async def test_a_cache_that_cannot_be_written_leaves_the_tag_as_it_was(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("demo")
    await workshop.build()
    before, _ = await workshop.read()
    (workshop.folder / "cache" / "wheels").symlink_to("/dev/full")
    with pytest.raises(errors.CacheError) as caught:
        await workshop.build(requirements=workshop.require("demo"))
    assert "XDG_CACHE_HOME" in caught.value.remedy
    assert (await workshop.read())[0] == before


@pytest.mark.parametrize("content", [b'{"a":1}', b"[]", b"\xff", b'{"manifest":"{}","config":"[]"}'])
async def test_a_damaged_cache_is_as_good_as_none(workshop: Workshop, content: bytes) -> None:
    await workshop.build()
    before, _ = await workshop.read()
    for kind in ("bases", kept._KIND):
        for entry in (workshop.folder / "cache" / kind).iterdir():
            entry.write_bytes(content)
    assert (await workshop.build()).unchanged
    assert (await workshop.read())[0] == before


def test_large_wheels_get_layers_of_their_own_while_there_are_any() -> None:
    made = [Wheel(f"w{i}-1.0-py3-none-any.whl", f"{i:064x}", i * 30_000_000) for i in range(6)]
    assert group_wheels(made, 100) == [(made[2],), (made[3],), (made[4],), (made[5],), (made[0], made[1])]
    assert group_wheels(made, 2) == [(made[5],), tuple(made[:5])]
    assert group_wheels([], 5) == []
    assert wheels.LARGE_BYTES == 50_000_000


_TORCH_OF_BASE = {
    "usr/lib/python3/dist-packages/torch-1.13.0a0.egg-info/PKG-INFO": "Name: torch\nVersion: 1.13.0a0\n",
    "usr/lib/python3/dist-packages/torch/version.py": "cuda = None\n",
}


async def labelled(workshop: Workshop) -> Installed:
    _, config = await workshop.read()
    installed = Installed.of_labels(config.container.labels)
    assert {name for name in config.container.labels if name in LABELS} == installed.labels().keys()
    return installed


async def test_labels_tell_of_the_torch_that_the_base_brings(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    await workshop.make_base(debian_files() | _TORCH_OF_BASE)
    await workshop.build()
    own = Torch("1.13.0a0", "/usr/lib/python3/dist-packages", "none")
    assert await labelled(workshop) == Installed(own)
    make_wheel("demo")
    await workshop.build(requirements=workshop.require("demo", "torch"))
    assert await labelled(workshop) == Installed(own)


async def test_a_wheel_s_torch_takes_the_place_of_the_base_s_in_the_labels(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    await workshop.make_base(debian_files() | _TORCH_OF_BASE)
    make_wheel("nvidia_cuda_runtime_cu12", "12.4.127")
    make_wheel("torch", "2.5.1", requires=("nvidia-cuda-runtime-cu12==12.4.127",))
    await workshop.build(requirements=workshop.require("torch>=2"))
    assert await labelled(workshop) == Installed(Torch("2.5.1"), "12.4.127")
    # An image on top of it has neither its label by accident, nor the base's.
    make_wheel("torch", "2.6.0+cpu")
    requirements = workshop.require("torch==2.6.0+cpu")
    on_top = f"oci:{workshop.folder / 'out'}:v2"
    await workshop.build(base=workshop.target, target=on_top, requirements=requirements, upgrade=True)
    _, config = await workshop.read(on_top)
    installed = Installed.of_labels(config.container.labels)
    assert installed.torch == Torch("2.6.0+cpu")


@pytest.mark.parametrize("where", ["env", "labels", "command"])
async def test_what_is_baked_holds_no_secret(workshop: Workshop, where: str) -> None:
    token = checked("ghp")
    values: dict[str, Any] = {"env": {"GH": token}, "labels": {"gh": token}, "command": ("curl", token)}
    with pytest.raises(errors.UsageError, match="a token of GitHub"):
        await workshop.build(**{where: values[where]})


async def test_a_locked_build_says_what_would_change(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo")
    make_wheel("more")
    requirements = workshop.require("demo")
    with pytest.raises(errors.BuildError, match=r"not up to date, and --locked .*: there was none"):
        await workshop.build(requirements=requirements, keeping=Keeping.LOCKED)
    assert not (workshop.app / "gpuyard.lock").exists()
    await workshop.build(requirements=requirements)
    await workshop.build(requirements=requirements, keeping=Keeping.LOCKED)
    before = (workshop.app / "gpuyard.lock").read_text()
    workshop.require("demo", "more")
    with pytest.raises(errors.BuildError, match=r"the requirements changed: \+ more 1\.0") as caught:
        await workshop.build(requirements=requirements, keeping=Keeping.LOCKED)
    assert caught.value.exit_code == 1
    assert (workshop.app / "gpuyard.lock").read_text() == before


async def test_a_frozen_build_takes_the_lock_as_it_is(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo")
    requirements = workshop.require("demo")
    first = await workshop.build(requirements=requirements)
    lock = workshop.app / "gpuyard.lock"
    before = lock.stat().st_mtime_ns
    workshop.require("demo", "nowhere")
    again = await workshop.build(requirements=requirements, keeping=Keeping.FROZEN)
    assert again.digest == first.digest and lock.stat().st_mtime_ns == before
    # It finds wheels that the cache has lost.
    shutil.rmtree(workshop.folder / "cache")
    shutil.rmtree(workshop.folder / "out")
    again = await workshop.build(requirements=requirements, keeping=Keeping.FROZEN)
    assert again.digest == first.digest


async def test_a_frozen_build_asks_for_no_sources(workshop: Workshop, make_wheel: MakeWheel) -> None:
    make_wheel("demo")
    requirements = workshop.require("demo")
    first = await workshop.build(requirements=requirements)
    workshop.require(
        "demo", "own @ git+https://x.example/own", "--no-binary demo", "-r https://x.example/r.txt"
    )
    with pytest.raises(errors.BuildError, match="asks for sources"):
        await workshop.build(requirements=requirements)
    again = await workshop.build(requirements=requirements, keeping=Keeping.FROZEN)
    assert again.digest == first.digest
    # Nor where wheels are looked up, which uv does by the same file.
    shutil.rmtree(workshop.folder / "cache")
    shutil.rmtree(workshop.folder / "out")
    again = await workshop.build(requirements=requirements, keeping=Keeping.FROZEN)
    assert again.digest == first.digest


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lock": Path("/nowhere/gpuyard.lock")}, "there is none"),
        ({"platforms": (Platform("linux", "arm64"),)}, "it has nothing for linux/arm64"),
        ({"base_name": "python:3.11"}, r"its base is oci:.* and not python:3\.11"),
    ],
)
async def test_a_frozen_build_needs_a_lock_for_it(
    workshop: Workshop, changes: dict[str, object], words: str
) -> None:
    await workshop.build()
    with pytest.raises(errors.UsageError, match=f"--frozen takes .*gpuyard.lock as it is, and {words}"):
        await workshop.build(keeping=Keeping.FROZEN, **changes)


async def test_a_lock_that_can_t_be_written_is_said_before_the_work(
    workshop: Workshop, make_wheel: MakeWheel
) -> None:
    make_wheel("demo")
    with pytest.raises(errors.UsageError, match=r"can't write /proc/gpuyard\.lock") as caught:
        await workshop.build(requirements=workshop.require("demo"), lock=Path("/proc/gpuyard.lock"))
    assert "--frozen" in caught.value.remedy
    assert not (workshop.folder / "cache/wheels").exists() and workshop.heard.said == []
