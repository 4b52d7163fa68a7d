from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from pysequoia import Tsk

from gpuyard import errors
from gpuyard.building.system_packages.archives.archives import open_archives
from gpuyard.building.system_packages.archives.sources import read_sources
from gpuyard.images.cache import Cache
from tests.unit.building.system_packages.debian_archive import NOW, DebFile, DebianArchive

TREE = DebFile("tree")


async def names(archive: DebianArchive, tmp_path: Path, *said: list[str], **files: bytes) -> str:
    """The index's paragraphs."""
    base = archive.base_files() | files
    sources = read_sources(base, "amd64", {})
    say = said[0].append if said else lambda text: None
    async with open_archives(sources, "amd64", base, Cache(tmp_path / "cache"), {}, NOW, say) as archives:
        indexes = await archives.fetch_indexes("binary-amd64/Packages")
    return "".join(text for _, index in indexes for name in index.names for text in index.paragraphs(name))


@pytest.mark.parametrize("ending", [".xz", ".gz", ".zst", ""])
@pytest.mark.parametrize("detached", [False, True])
async def test_a_signed_index_is_read_however_it_is_packed(
    archive: DebianArchive, tmp_path: Path, ending: str, detached: bool
) -> None:
    archive.publish([TREE], ending=ending, detached=detached)
    assert "Package: tree\n" in await names(archive, tmp_path)


async def test_an_index_is_had_by_its_hash_where_that_is_offered(
    archive: DebianArchive, tmp_path: Path
) -> None:
    archive.publish([TREE])
    # A mirror that is being renewed has the next index under the plain name already.
    archive.files["dists/stable/main/binary-amd64/Packages.xz"] = b"newer"
    assert "tree" in await names(archive, tmp_path)


async def test_an_index_is_fetched_once(archive: DebianArchive, tmp_path: Path) -> None:
    archive.publish([TREE])
    await names(archive, tmp_path)
    archive.served.clear()
    await names(archive, tmp_path)
    assert archive.served == ["dists/stable/InRelease"]


async def test_an_index_that_is_damaged_in_the_cache_is_fetched_again(
    archive: DebianArchive, tmp_path: Path
) -> None:
    archive.publish([TREE])
    await names(archive, tmp_path)
    (kept,) = (tmp_path / "cache" / "apt-indexes").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    assert "Package: tree\n" in await names(archive, tmp_path)
    assert "Package: tree\n" in await names(archive, tmp_path)


async def test_an_index_of_other_bytes_is_refused(archive: DebianArchive, tmp_path: Path) -> None:
    archive.publish([TREE], by_hash=False)
    content = archive.files["dists/stable/main/binary-amd64/Packages.xz"]
    archive.files["dists/stable/main/binary-amd64/Packages.xz"] = content[:-1] + b"x"
    with pytest.raises(errors.BuildError, match="is not the file that its archive's signed index names"):
        await names(archive, tmp_path)
    archive.files["dists/stable/main/binary-amd64/Packages.xz"] = content
    assert "tree" in await names(archive, tmp_path)


async def test_a_changed_text_is_refused(archive: DebianArchive, tmp_path: Path) -> None:
    archive.publish([TREE])
    text = archive.files["dists/stable/InRelease"]
    archive.files["dists/stable/InRelease"] = text.replace(b"Origin: Test", b"Origin: Evil")
    with pytest.raises(errors.BuildError, match="isn't signed by a key that the base trusts"):
        await names(archive, tmp_path)


async def test_what_is_around_the_signed_text_does_not_count(archive: DebianArchive, tmp_path: Path) -> None:
    archive.publish([TREE])
    index = "dists/stable/main/binary-amd64/Packages.xz"
    archive.files["dists/stable/InRelease"] = (
        b"SHA256:\n "
        + b"0" * 64
        + b" 1 main/binary-amd64/Packages.gz\n"
        + archive.files["dists/stable/InRelease"]
    )
    assert "tree" in await names(archive, tmp_path)
    assert index in archive.files


async def test_another_key_is_refused_by_its_id(archive: DebianArchive, tmp_path: Path) -> None:
    archive.publish([TREE])
    other = bytes(Tsk.generate("other <o@example.org>").extract_certificate())
    with pytest.raises(errors.BuildError, match="isn't signed by a key that the base trusts") as caught:
        await names(archive, tmp_path, **{"etc/apt/trusted.gpg.d/test.gpg": other})
    assert "/etc/apt/trusted.gpg.d" in caught.value.message


@pytest.mark.parametrize("armored", [False, True])
async def test_a_source_names_who_may_sign(archive: DebianArchive, tmp_path: Path, armored: bool) -> None:
    archive.publish([TREE])
    key = str(archive.key.extract_certificate()).encode() if armored else archive.keyring
    line = f"deb [signed-by=/usr/share/keyrings/k.gpg] {archive.address} stable main\n".encode()
    other = bytes(Tsk.generate("other <o@example.org>").extract_certificate())
    files = {"etc/apt/sources.list": line, "etc/apt/trusted.gpg.d/test.gpg": other}
    assert "tree" in await names(archive, tmp_path, **files, **{"usr/share/keyrings/k.gpg": key})
    with pytest.raises(errors.BuildError, match=r"trusts /usr/share/keyrings/k\.gpg"):
        await names(archive, tmp_path, **files, **{"usr/share/keyrings/k.gpg": other})
    with pytest.raises(errors.BuildError, match="the base has no such file"):
        await names(archive, tmp_path, **files)


async def test_a_fingerprint_names_who_may_sign(archive: DebianArchive, tmp_path: Path) -> None:
    archive.publish([TREE])
    own = archive.key.extract_certificate().fingerprint
    for fingerprint, fits in ((own.upper(), True), ("0" * 40, False)):
        line = f"deb [signed-by={fingerprint}] {archive.address} stable main\n".encode()
        if fits:
            assert "tree" in await names(archive, tmp_path, **{"etc/apt/sources.list": line})
        else:
            with pytest.raises(errors.BuildError, match="nobody signed it who may"):
                await names(archive, tmp_path, **{"etc/apt/sources.list": line})


async def test_a_key_within_the_source_may_sign(archive: DebianArchive, tmp_path: Path) -> None:
    archive.publish([TREE])
    key = "\n".join(f" {line or '.'}" for line in str(archive.key.extract_certificate()).splitlines())
    text = f"Types: deb\nURIs: {archive.address}\nSuites: stable\nComponents: main\nSigned-By:\n{key}\n"
    files = {"etc/apt/sources.list": b"", "etc/apt/sources.list.d/a.sources": text.encode()}
    assert "tree" in await names(archive, tmp_path, **files)


async def test_without_a_signature_only_what_the_base_trusts_is_taken(
    archive: DebianArchive, tmp_path: Path
) -> None:
    archive.publish([TREE], detached=True)
    del archive.files["dists/stable/Release.gpg"]
    with pytest.raises(errors.BuildError, match="isn't signed"):
        await names(archive, tmp_path)
    said: list[str] = []
    line = f"deb [trusted=yes] {archive.address} stable main\n".encode()
    assert "tree" in await names(archive, tmp_path, said, **{"etc/apt/sources.list": line})
    assert len(said) == 1 and "its signature isn't checked" in said[0]


async def test_an_index_that_is_too_old_or_from_the_future_is_refused(
    archive: DebianArchive, tmp_path: Path
) -> None:
    archive.publish([TREE], date=NOW - timedelta(days=8), valid=timedelta(days=7))
    with pytest.raises(errors.BuildError, match=r"was valid until 2026-04-30 12:00 UTC"):
        await names(archive, tmp_path / "old")
    line = f"deb [check-valid-until=no] {archive.address} stable main\n".encode()
    assert "tree" in await names(archive, tmp_path / "any", **{"etc/apt/sources.list": line})
    archive.publish([TREE], date=NOW + timedelta(days=1))
    with pytest.raises(errors.BuildError, match="was made at 2026-05-02 12:00 UTC"):
        await names(archive, tmp_path / "new")


async def test_an_older_index_than_before_is_not_taken(archive: DebianArchive, tmp_path: Path) -> None:
    old: dict[str, bytes] = {}
    archive.publish([DebFile("tree", "1.0")], date=NOW - timedelta(days=2))
    old |= archive.files
    archive.publish([DebFile("tree", "1.1")], date=NOW - timedelta(days=1))
    assert "Version: 1.1" in await names(archive, tmp_path)
    archive.files |= old
    said: list[str] = []
    assert "Version: 1.1" in await names(archive, tmp_path, said)
    assert len(said) == 1 and "that one is used" in said[0]


async def test_an_archive_that_is_gone_is_told_with_a_way_out(archive: DebianArchive, tmp_path: Path) -> None:
    line = f"deb {archive.address.replace('://', '://me:secret@')} stable main\n".encode()
    with pytest.raises(errors.BuildError, match="neither InRelease nor Release") as caught:
        await names(archive, tmp_path, **{"etc/apt/sources.list": line})
    assert "secret" not in caught.value.message
    assert "GPUYARD_APT_MIRRORS" in caught.value.remedy


@pytest.mark.parametrize("poisoner", ["[trusted=yes]", "[signed-by=/usr/share/keyrings/evil.gpg]"])
async def test_what_another_base_trusted_is_not_taken_for_one_that_does_not(
    archive: DebianArchive, tmp_path: Path, poisoner: str
) -> None:
    honest, archive.key = archive.key, Tsk.generate("evil <e@example.org>")
    archive.publish([DebFile("tree", "6.66")], date=NOW + timedelta(minutes=30))
    line = f"deb {poisoner} {archive.address} stable main\n".encode()
    evil = {"usr/share/keyrings/evil.gpg": archive.keyring}
    assert "6.66" in await names(archive, tmp_path, **{"etc/apt/sources.list": line}, **evil)
    archive.key = honest
    archive.publish([TREE])
    said: list[str] = []
    assert "6.66" not in await names(archive, tmp_path, said)
    assert said == []


async def test_a_refused_index_is_not_remembered(archive: DebianArchive, tmp_path: Path) -> None:
    archive.publish([TREE], date=NOW + timedelta(days=1))
    with pytest.raises(errors.BuildError, match="was made at"):
        await names(archive, tmp_path)
    archive.publish([TREE])
    assert "tree" in await names(archive, tmp_path)


@pytest.mark.parametrize("entry", [b'{"text":"x"}', b'{"content":"x","signature":3}', b"[]", b"\0"])
async def test_what_is_remembered_and_cannot_be_read_counts_for_nothing(
    archive: DebianArchive, tmp_path: Path, entry: bytes
) -> None:
    archive.publish([TREE])
    await names(archive, tmp_path)
    (kept,) = (tmp_path / "cache" / "apt-releases").iterdir()
    kept.write_bytes(entry)
    assert "tree" in await names(archive, tmp_path)
