from __future__ import annotations

import asyncio
import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import zstandard

from gpuyard import errors
from gpuyard.building.layers.system_layer import SystemLayer
from gpuyard.building.system_packages.choose import Chooser
from gpuyard.building.system_packages.stock import DebStock
from gpuyard.building.system_packages.unpacking.unpacked import Unpacked
from gpuyard.images.cache import Cache
from gpuyard.images.contents.folders import Folders
from gpuyard.images.contents.system import BaseSystem
from gpuyard.images.layers import EPOCH, compression
from tests.unit.building.system_packages.conftest import archive
from tests.unit.building.system_packages.debian_archive import NOW, DebFile, DebianArchive, serve
from tests.unit.building.system_packages.unpacking.test_certificates import make_certificate
from tests.unit.images.elf_files import make_elf

__all__ = ["archive"]

#: A base with a merged /usr, and one package.
MERGED = Folders(links={"lib": "usr/lib", "bin": "usr/bin", "var/run": "run"})
STATUS = "Package: old\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\nSection: libs\n\n"


class Made:
    """A layer that was packed.

    Attributes:
        members: by path.
        said: what the user heard.
    """

    def __init__(self, packed: bytes, said: list[str], layer: SystemLayer, stock: DebStock) -> None:
        self.packed = packed
        self.said = said
        self.layer = layer
        self.stock = stock
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
            self.members = {info.name: info for info in tar}
            self.contents = {i.name: f.read() for i in tar if i.isreg() and (f := tar.extractfile(i))}

    def text(self, path: str) -> str:
        return self.contents[path].decode()

    @property
    def paths(self) -> list[str]:
        """Without dpkg's and apt's databases."""
        return [p for p in self.members if not p.startswith(("var/lib/dpkg/", "var/lib/apt/"))]


async def make(
    archive: DebianArchive,
    cache: Path,
    packages: Sequence[DebFile],
    asked: Sequence[str],
    files: Mapping[str, bytes] | None = None,
    status: str = STATUS,
) -> Made:
    """The layer of what is asked for, on the base."""
    archive.publish(packages)
    said: list[str] = []
    system = BaseSystem(archive.base_files(status) | dict(files or {}))
    chooser = Chooser("base", system.files, "amd64", Cache(cache), {}, said.append)
    chosen = await chooser.choose(asked, NOW, ())
    stock = DebStock(lambda: chooser.sources().found, Cache(cache), {}, lambda done, total: None)

    async def load() -> Unpacked:
        named = {package.name for package in chosen if package.asked}
        return Unpacked(system, MERGED, await stock.prepare(chosen), named, "amd64")

    layer = SystemLayer(chosen, "sha256:base", EPOCH, compression("gzip"), Cache(cache), load, said.append)
    await layer.prepare()
    return Made(b"".join(layer.pack()), said, layer, stock)


async def test_files_lie_where_dpkg_puts_them(archive: DebianArchive, tmp_path: Path) -> None:
    deb = DebFile(
        "tool",
        files={
            "bin/tool": b"#!",
            "lib/x/libtool.so": "libtool.so.1",
            "var/run/tool/pid": b"",
            "opt/tool/y": b"y",
        },
        modes={"bin/tool": 0o4755, "opt/tool": 0o700},
        hard_links={"bin/tool2": "bin/tool"},
    )
    made = await make(archive, tmp_path, [deb], ["tool"])
    # Folders that are links in the base stay links; those that its packages don't have come with their modes.
    assert {"usr/bin/tool", "usr/bin/tool2", "usr/lib/x/libtool.so", "run/tool/pid"} <= set(made.paths)
    assert not {"bin", "lib", "bin/tool", "var/run"} & set(made.paths)
    assert made.members["usr/bin/tool"].mode == 0o4755
    assert made.members["opt/tool"].mode == 0o700
    assert made.members["usr/bin/tool2"].islnk() and made.members["usr/bin/tool2"].linkname == "usr/bin/tool"
    assert made.members["usr/lib/x/libtool.so"].linkname == "libtool.so.1"


async def test_dpkgs_database_has_the_packages(archive: DebianArchive, tmp_path: Path) -> None:
    one = DebFile(
        "one",
        fields={"Depends": "two", "Multi-Arch": "same", "Description": "x\n y"},
        files={"etc/one.conf": b"1", "usr/share/one": b"1"},
        control={
            "conffiles": "/etc/one.conf\n",
            "md5sums": "m  usr/share/one\n",
            "postinst": "#!/bin/sh\n",
            "triggers": "interest-noawait /usr/share/fonts\n",
        },
    )
    made = await make(archive, tmp_path, [one, DebFile("two", "2")], ["one"])
    status = made.text("var/lib/dpkg/status")
    assert status.startswith(STATUS)
    md5 = hashlib.md5(b"1").hexdigest()
    assert "Package: one\nStatus: install ok installed\nVersion: 1.0\n" in status
    assert f"\n y\nConffiles:\n /etc/one.conf {md5}\n\n" in status
    listed = ["/.", "/etc", "/usr", "/usr/share", "/etc/one.conf", "/usr/share/one"]
    assert made.text("var/lib/dpkg/info/one:amd64.list").splitlines() == listed
    assert made.text("var/lib/dpkg/info/one:amd64.md5sums") == "m  usr/share/one\n"
    assert made.members["var/lib/dpkg/info/one:amd64.postinst"].mode == 0o755
    assert made.text("var/lib/dpkg/triggers/File") == "/usr/share/fonts one:amd64/noawait\n"
    assert "var/lib/dpkg/info/two.list" in made.members
    assert (
        made.text("var/lib/apt/extended_states") == "Package: two\nArchitecture: amd64\nAuto-Installed: 1\n\n"
    )


async def test_a_base_without_dpkg_keeps_a_file_for_each(archive: DebianArchive, tmp_path: Path) -> None:
    files = {"var/lib/dpkg/status.d/old": STATUS.encode()}
    deb = DebFile("one", files={"usr/one": b""}, control={"md5sums": "m  usr/one\n"})
    made = await make(archive, tmp_path, [deb], ["one"], files, status="")
    assert made.text("var/lib/dpkg/status.d/one").startswith("Package: one\n")
    assert made.text("var/lib/dpkg/status.d/one.md5sums") == "m  usr/one\n"
    assert "var/lib/dpkg/status" not in made.members


async def test_a_replaced_package_leaves_nothing_but_its_configuration(
    archive: DebianArchive, tmp_path: Path
) -> None:
    files = {
        "var/lib/dpkg/info/old.list": b"/.\n/usr\n/usr/share\n/usr/share/gone\n"
        b"/usr/share/stays\n/etc\n/etc/old\n/lib\n/lib/kept\n"
    }
    new = DebFile("old", "2", files={"usr/share/stays": b"2", "usr/lib/kept": b"2"})
    made = await make(archive, tmp_path, [new, DebFile("a", fields={"Depends": "old (>= 2)"})], ["a"], files)
    assert [path for path in made.paths if ".wh." in path] == ["usr/share/.wh.gone"]
    status = made.text("var/lib/dpkg/status")
    assert (
        "Package: old\nStatus: install ok installed\nVersion: 2\n" in status and "Version: 1\n" not in status
    )
    assert made.said == ["old of the base is replaced: 1 → 2 (a → old)"]


async def test_a_file_of_another_package_is_only_taken_where_that_is_said(
    archive: DebianArchive, tmp_path: Path
) -> None:
    files = {"var/lib/dpkg/info/old.list": b"/.\n/usr\n/usr/x\n/usr/y\n"}
    with pytest.raises(errors.BuildError, match=r"new has /usr/x, which old of the base has"):
        await make(archive, tmp_path, [DebFile("new", files={"usr/x": b""})], ["new"], files)
    new = DebFile("new", fields={"Replaces": "old"}, files={"usr/x": b""})
    made = await make(archive, tmp_path / "b", [new], ["new"], files)
    assert made.text("var/lib/dpkg/info/old.list") == "/.\n/usr\n/usr/y\n"

    two = [DebFile("a", files={"usr/z": b"a"}), DebFile("b", files={"usr/z": b"b"})]
    with pytest.raises(errors.BuildError, match="a and b both have /usr/z"):
        await make(archive, tmp_path / "c", two, ["a", "b"])
    two[1] = DebFile("b", fields={"Replaces": "a"}, files={"usr/z": b"b"})
    made = await make(archive, tmp_path / "d", two, ["a", "b"])
    assert made.contents["usr/z"] == b"b"


async def test_what_the_base_does_not_want_is_left_out(archive: DebianArchive, tmp_path: Path) -> None:
    files = {
        "etc/dpkg/dpkg.cfg.d/docker": b"path-exclude /usr/share/doc/*\n"
        b"path-include /usr/share/doc/*/copyright\n"
    }
    deb = DebFile(
        "a", files={"usr/share/doc/a/copyright": b"", "usr/share/doc/a/changelog": b"", "usr/a": b""}
    )
    made = await make(archive, tmp_path, [deb], ["a"], files)
    assert {"usr/share/doc/a/copyright", "usr/a"} <= set(made.paths)
    assert "usr/share/doc/a/changelog" not in made.paths
    assert "/usr/share/doc/a/changelog" in made.text("var/lib/dpkg/info/a.list")


async def test_a_diverted_file_goes_aside(archive: DebianArchive, tmp_path: Path) -> None:
    files = {"var/lib/dpkg/diversions": b"/bin/a\n/bin/a.real\nother\n"}
    made = await make(archive, tmp_path, [DebFile("a", files={"bin/a": b""})], ["a"], files)
    assert "usr/bin/a.real" in made.paths and "usr/bin/a" not in made.paths


async def test_alternatives_are_made_without_running_anything(archive: DebianArchive, tmp_path: Path) -> None:
    script = (
        "#!/bin/sh\nupdate-alternatives --install /usr/lib/libblas.so.3 \\\n"
        "  libblas.so.3 /usr/lib/blas/libblas.so.3 10\n"
    )
    deb = DebFile("blas", files={"lib/blas/libblas.so.3": b""}, control={"postinst": script})
    made = await make(archive, tmp_path, [deb], ["blas"])
    assert made.members["usr/lib/libblas.so.3"].linkname == "/etc/alternatives/libblas.so.3"
    assert made.members["etc/alternatives/libblas.so.3"].linkname == "/usr/lib/blas/libblas.so.3"
    assert made.text("var/lib/dpkg/alternatives/libblas.so.3").startswith("auto\n/usr/lib/libblas.so.3\n\n")
    assert made.said == []


async def test_the_loaders_cache_has_new_libraries(archive: DebianArchive, tmp_path: Path) -> None:
    files = {"etc/ld.so.conf": b"/usr/lib/x86_64-linux-gnu\n"}
    deb = DebFile(
        "a",
        files={
            "lib/x86_64-linux-gnu/liba.so.1.0": make_elf("liba.so.1"),
            "lib/x86_64-linux-gnu/liba.so.1": "liba.so.1.0",
        },
    )
    made = await make(archive, tmp_path, [deb], ["a"], files)
    assert b"/usr/lib/x86_64-linux-gnu/liba.so.1\0" in made.contents["etc/ld.so.cache"]
    assert set(await made.layer.read_libraries()) == {
        "usr/lib/x86_64-linux-gnu/liba.so.1.0",
        "usr/lib/x86_64-linux-gnu/liba.so.1",
    }


async def test_certificates_are_trusted_by_whoever_looks_for_them(
    archive: DebianArchive, tmp_path: Path
) -> None:
    path = "usr/share/ca-certificates/mozilla/Test (R) 1.crt"
    deb = DebFile(
        "ca-certificates",
        files={path: make_certificate("Test  Root")},
        control={"postinst": "#!/bin/sh\nupdate-ca-certificates\n"},
    )
    made = await make(archive, tmp_path, [deb], ["ca-certificates"])
    assert made.contents["etc/ssl/certs/ca-certificates.crt"] == deb.files[path]
    assert made.members["etc/ssl/certs/Test_=R=_1.pem"].linkname == f"/{path}"
    assert "etc/ca-certificates.conf" in made.members and made.said == []


async def test_graphviz_finds_its_plugins(archive: DebianArchive, tmp_path: Path) -> None:
    plugin = "usr/lib/x86_64-linux-gnu/graphviz/libgvplugin_core.so.6"
    script = "#!/bin/sh\nlibgvc6-config-update -c\n"
    deb = DebFile("libgvc6", "2.42.2-7", files={plugin: b""}, control={"postinst": script})
    made = await make(archive, tmp_path, [deb], ["libgvc6"])
    assert b"libgvplugin_core.so.6 core {" in made.contents["usr/lib/x86_64-linux-gnu/graphviz/config6a"]
    assert made.said == []
    other = DebFile("libgvc6", "3.0-1", files={plugin: b""}, control={"postinst": script})
    made = await make(archive, tmp_path / "other", [other], ["libgvc6"])
    assert "usr/lib/x86_64-linux-gnu/graphviz/config6a" not in made.members
    assert len(made.said) == 1 and "list of Graphviz's plugins" in made.said[0]


async def test_scripts_that_matter_are_told(archive: DebianArchive, tmp_path: Path) -> None:
    deb = DebFile("a", control={"postinst": "#!/bin/sh\nadduser --system a\n"})
    made = await make(archive, tmp_path, [deb], ["a"])
    assert made.said == ["the script of the system package a isn't run: it adds users or groups"]


async def test_equal_packages_make_equal_layers_on_any_machine(
    archive: DebianArchive, tmp_path: Path
) -> None:
    packages = [
        DebFile("b", files={"usr/b": b"b" * 1_000_000}),
        DebFile("a", fields={"Depends": "b"}, files={"usr/a": b"a"}),
    ]
    one = await make(archive, tmp_path / "one", packages, ["a"])
    other_archive = DebianArchive(key=archive.key)
    with serve(other_archive):
        two = await make(other_archive, tmp_path / "two", packages, ["a"])
    again = b"".join(one.layer.pack())
    assert one.packed == two.packed == again
    assert one.layer.key == two.layer.key


async def test_a_locked_version_that_is_gone_is_told_with_a_way_out(
    archive: DebianArchive, tmp_path: Path
) -> None:
    made = await make(archive, tmp_path, [DebFile("a")], ["a"])
    archive.files = {path: content for path, content in archive.files.items() if not path.endswith(".deb")}
    stock = DebStock(made.stock.sources, Cache(tmp_path / "empty"), {}, lambda done, total: None)
    with pytest.raises(errors.BuildError, match=r"a 1\.0 is locked") as caught:
        await stock.prepare(made.layer.packages)
    assert "--upgrade" in caught.value.remedy and "snapshot" in caught.value.remedy


async def test_packages_come_from_whichever_source_has_them(archive: DebianArchive, tmp_path: Path) -> None:
    empty = DebianArchive(key=archive.key)
    with serve(empty):
        empty.publish([])
        lines = f"deb {empty.address} stable main\ndeb {archive.address} stable main\n".encode()
        files = {"etc/apt/sources.list": lines}
        made = await make(archive, tmp_path, [DebFile("a", files={"usr/a": b"a"})], ["a"], files)
    assert "pool/a_1.0_amd64.deb" in empty.served
    assert made.contents["usr/a"] == b"a"


async def test_two_builds_at_once_do_not_take_packages_from_each_other(
    archive: DebianArchive, tmp_path: Path
) -> None:
    debs = [DebFile(f"p{number}", files={f"usr/{number}": bytes(300_000)}) for number in range(8)]
    made = await make(archive, tmp_path / "first", debs, [deb.name for deb in debs])
    for attempt in range(3):
        cache = Cache(tmp_path / f"both{attempt}")
        stock = DebStock(made.stock.sources, cache, {}, lambda done, total: None)
        found = await asyncio.gather(*(stock.prepare(made.layer.packages) for _ in range(4)))
        assert all(each == found[0] for each in found) and len(found[0]) == len(debs)


async def test_packages_are_fetched_once(archive: DebianArchive, tmp_path: Path) -> None:
    made = await make(archive, tmp_path, [DebFile("a", files={"usr/a": b""})], ["a"])
    archive.served.clear()
    await made.stock.prepare(made.layer.packages)
    assert archive.served == []
    assert not list((tmp_path / "debs").glob("*.deb"))


async def test_bytes_that_changed_in_the_cache_are_not_shipped(
    archive: DebianArchive, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 40
    made = await make(archive, tmp_path, [DebFile("tool", files={"usr/a": content})], ["tool"])
    (kept,) = (tmp_path / "debs").glob("*.tar.zst")
    packed = kept.read_bytes()
    tar = zstandard.ZstdDecompressor().stream_reader(packed).read()
    other = zstandard.ZstdCompressor(level=1).compress(tar.replace(content, content[::-1]))
    # The same checksum over other bytes, as a disk leaves them.
    kept.write_bytes(other[:4] + bytes([other[4] | 4]) + other[5:] + packed[-4:])
    with pytest.raises(errors.BuildError, match="what the cache keeps of the package tool can't be read"):
        b"".join(made.layer.pack())
