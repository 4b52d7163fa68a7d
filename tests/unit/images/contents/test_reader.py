from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from collections.abc import AsyncIterator

import pytest
import zstandard

from gpuyard import errors
from gpuyard.images.contents.contents import ImageContents, Interpreter
from gpuyard.images.contents.folders import FolderMode
from gpuyard.images.contents.layer_stream import LayerStream
from gpuyard.images.contents.reader import ContentsReader, read_layers
from gpuyard.images.contents.torch import Torch
from gpuyard.images.oci import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor
from tests.unit.images.conftest import LIBC, Files, debian_files, tar_of


def contents(*layers: Files, path: str = "") -> ImageContents:
    reader = ContentsReader()
    for layer in layers:
        reader.read_layer(io.BytesIO(tar_of(layer)))
    return reader.contents({"PATH": path} if path else {})


def test_debian() -> None:
    found = contents(debian_files())
    assert found.python == Interpreter("/usr/bin/python3.11", 11)
    assert found.packages == {"pyyaml": "6.0"}
    assert (found.libc, found.libc_version) == ("glibc", (2, 36))
    assert found.passwd.startswith("root:")
    assert ImageContents.of(found.to_json()) == found


def test_conda() -> None:
    found = contents(
        debian_files(),
        {
            "opt/conda/bin/python": "-> python3.10",
            "opt/conda/bin/python3.10": b"elf",
            "opt/conda/lib/python3.10/site-packages/torch-2.1.0+cu121.dist-info/METADATA": (
                "Metadata-Version: 2.1\nName: torch\nVersion: 2.1.0+cu121\n\nName: not this\n"
            ),
        },
        path="/opt/conda/bin:/usr/bin",
    )
    assert found.python == Interpreter("/opt/conda/bin/python3.10", 10)
    assert found.packages == {"torch": "2.1.0+cu121"}


SHIM = "#!/usr/bin/env bash\nexec pyenv exec python3 $@\n"


@pytest.mark.parametrize(
    ("files", "script"),
    [
        ({"opt/shims/python3": SHIM, "opt/shims/python3.12": SHIM}, "/opt/shims/python3"),
        ({"opt/shims/python3.12": SHIM}, "/opt/shims/python3.12"),
        ({"opt/shims/python": "-> /opt/exec", "opt/exec": SHIM, "opt/shims/python3.12": b"elf"}, ""),
        ({"opt/shims/python3.12-config": SHIM}, ""),
    ],
)
def test_a_script_in_the_place_of_python_is_not_taken_for_one(files: Files, script: str) -> None:
    found = contents(debian_files(), files, path="/opt/shims:/usr/bin")
    assert (found.python is None, found.python_script) == (bool(script), script)
    assert ImageContents.of(found.to_json()) == found


def test_python_by_way_of_alternatives() -> None:
    found = contents(
        {
            "usr/bin/python3": "-> /etc/alternatives/python3",
            "etc/alternatives/python3": "-> /usr/bin/python3.12",
            "usr/bin/python3.12": b"elf",
            "usr/bin/python3.10": b"elf",
        }
    )
    assert found.python == Interpreter("/usr/bin/python3.12", 12)


def test_one_under_usr_local_does_not_see_debians_packages() -> None:
    found = contents(
        debian_files(),
        {
            "usr/local/bin/python3": "-> python3.12",
            "usr/local/bin/python3.12": b"elf",
            "usr/local/lib/python3.12/site-packages/pip-24.dist-info/METADATA": "Name: pip\nVersion: 24\n",
            "usr/local/lib/python3.11/dist-packages/x-1.dist-info/METADATA": "Name: x\nVersion: 1\n",
        },
    )
    assert found.python == Interpreter("/usr/local/bin/python3.12", 12)
    assert found.packages == {"pip": "24"}


def test_an_environment_of_the_bases_own() -> None:
    found = contents(
        debian_files(),
        {
            "opt/venv/pyvenv.cfg": "home = /usr/bin\n",
            "opt/venv/bin/python3": "-> /usr/bin/python3",
            "opt/venv/lib/python3.11/site-packages/vllm-0.6.dist-info/METADATA": "Name: vllm\nVersion: 0.6\n",
        },
        path="/opt/venv/bin:/usr/bin",
    )
    assert found.python == Interpreter("/usr/bin/python3.11", 11, "/opt/venv")
    assert found.packages["vllm"] == "0.6"


DEBIANS_TORCH = {
    "usr/lib/python3/dist-packages/torch-1.13.0a0+gitunknown.egg-info/PKG-INFO": (
        "Metadata-Version: 2.1\nName: torch\nVersion: 1.13.0a0+gitunknown\n"
    ),
    "usr/lib/python3/dist-packages/torch/version.py": "__version__ = '1.13.0a0'\ncuda = None\n",
}


def torch_files(folder: str, version: str, cuda: str) -> dict[str, bytes | str]:
    return {
        f"{folder}/torch-{version}.dist-info/METADATA": f"Name: torch\nVersion: {version}\n",
        f"{folder}/torch/version.py": f"__version__ = {version!r}\ncuda: Optional[str] = {cuda!r}\n",
    }


def test_debians_torch_is_built_without_cuda() -> None:
    found = contents(debian_files() | DEBIANS_TORCH)
    assert found.torch == Torch("1.13.0a0+gitunknown", "/usr/lib/python3/dist-packages", "none")
    assert ImageContents.of(found.to_json()) == found
    assert ImageContents.of(found.to_json()).torch == found.torch


@pytest.mark.parametrize(
    ("folder", "path"),
    [
        ("usr/local/lib/python3.11/dist-packages", ""),
        ("opt/venv/lib/python3.11/site-packages", "/opt/venv/bin:/usr/bin"),
        ("zoo/venv/lib/python3.11/site-packages", "/zoo/venv/bin:/usr/bin"),
    ],
)
def test_the_torch_that_python_finds_first(folder: str, path: str) -> None:
    files = debian_files() | DEBIANS_TORCH | torch_files(folder, "2.5.1+cu124", "12.4")
    if path:
        venv = folder.partition("/lib/")[0]
        files |= {f"{venv}/pyvenv.cfg": "home = /usr/bin\n", f"{venv}/bin/python3": "-> /usr/bin/python3"}
    found = contents(files, path=path)
    assert found.torch == Torch("2.5.1+cu124", f"/{folder}", "12.4")
    assert found.packages["torch"] == "2.5.1+cu124"


def test_conda_s_torch_has_no_local_version() -> None:
    folder = "opt/conda/lib/python3.10/site-packages"
    found = contents(
        debian_files() | DEBIANS_TORCH,
        {"opt/conda/bin/python3.10": b"elf", **torch_files(folder, "2.1.0", "12.1")},
        path="/opt/conda/bin:/usr/bin",
    )
    assert found.torch == Torch("2.1.0", f"/{folder}", "12.1")


def test_a_torch_that_a_higher_layer_takes_away_or_replaces() -> None:
    gone = {"usr/lib/python3/dist-packages/.wh.torch-1.13.0a0+gitunknown.egg-info": ""}
    assert contents(debian_files() | DEBIANS_TORCH, gone).torch is None
    folder = "usr/local/lib/python3.11/dist-packages"
    upgraded = {
        f"{folder}/.wh.torch-2.4.1.dist-info": "",
        **torch_files(folder, "2.5.1", "12.4"),
    }
    found = contents(debian_files() | torch_files(folder, "2.4.1", "12.1"), upgraded)
    assert found.torch == Torch("2.5.1", f"/{folder}", "12.4")


def test_a_torch_that_doesn_t_say_its_cuda() -> None:
    metadata = {"usr/lib/python3/dist-packages/torch-2.0.egg-info": "Name: torch\nVersion: 2.0\n"}
    assert contents(debian_files() | metadata).torch == Torch("2.0", "/usr/lib/python3/dist-packages", "")


def test_a_package_that_two_folders_have_counts_where_python_looks_first() -> None:
    own = "usr/local/lib/python3.11/dist-packages/PyYAML-5.4.dist-info/METADATA"
    found = contents(debian_files(), {own: "Name: PyYAML\nVersion: 5.4\n"})
    assert found.packages == {"pyyaml": "5.4"}


def test_users_are_read_where_a_link_leads() -> None:
    found = contents({"etc/passwd": "-> static/passwd", "etc/static/passwd": "root:x:0:0::/root:/bin/sh\n"})
    assert (found.passwd_path, found.passwd) == ("etc/static/passwd", "root:x:0:0::/root:/bin/sh\n")
    assert ImageContents.of(found.to_json()) == found


def test_folders_that_are_links_are_followed() -> None:
    found = contents({"bin": "-> usr/bin", "usr/bin/python3.9": b"elf"}, path="/bin")
    assert found.python == Interpreter("/usr/bin/python3.9", 9)


def test_who_may_run_the_interpreter() -> None:
    def layer(path: str, mode: int, link: str = "") -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            info = tarfile.TarInfo(path)
            info.mode, info.uid, info.gid = mode, 5, 6
            if link:
                info.type, info.linkname = tarfile.LNKTYPE, link
            archive.addfile(info)
        return out.getvalue()

    def mode_after(*layers: bytes) -> FolderMode:
        reader = ContentsReader()
        for each in layers:
            reader.read_layer(io.BytesIO(each))
        found = reader.contents({})
        assert found.python and ImageContents.of(found.to_json()).python
        kept = ImageContents.of(found.to_json()).python
        assert kept and kept.mode == found.python.mode
        return found.python.mode

    closed, opened = layer("usr/bin/python3.11", 0o700), layer("usr/bin/python3.11", 0o755)
    assert mode_after(closed) == FolderMode(0o700, 5, 6)
    assert mode_after(closed, opened) == FolderMode(0o755, 5, 6)
    other = layer("usr/local/bin/python3.11", 0o755, link="usr/bin/python3.11")
    assert mode_after(closed, other) == FolderMode(0o700, 5, 6)


def test_links_in_a_circle_lead_nowhere() -> None:
    assert contents({"usr/bin/python3": "-> python", "usr/bin/python": "-> python3"}).python is None


def test_a_whiteout_takes_away_what_a_lower_layer_has() -> None:
    package = "usr/lib/python3/dist-packages/PyYAML-6.0.egg-info"
    assert (
        contents(debian_files(), {f"{package.rpartition('/')[0]}/.wh.PyYAML-6.0.egg-info": ""}).packages == {}
    )
    opaque = {
        "usr/lib/python3/dist-packages/.wh..wh..opq": "",
        "usr/lib/python3/dist-packages/new-1.egg-info": "Name: new\nVersion: 1\n",
    }
    assert contents(debian_files(), opaque).packages == {"new": "1"}
    assert contents(debian_files(), {"usr/bin/.wh.python3.11": ""}).python is None


def test_a_hard_link_has_its_targets_content() -> None:
    metadata = "dist-packages/a-1.dist-info/METADATA"
    found = contents(
        debian_files(),
        {
            f"opt/pkgs/{metadata}": "Name: a\nVersion: 1\n",
            f"usr/lib/python3/{metadata}": f"=> opt/pkgs/{metadata}",
        },
    )
    assert found.packages["a"] == "1"


def test_musl() -> None:
    assert contents({"lib/ld-musl-x86_64.so.1": b"elf"}).libc == "musl"


def test_an_older_glibc_in_a_file_named_for_its_version() -> None:
    files: Files = {"lib/libc.so.6": "-> libc-2.28.so", "lib/libc-2.28.so": LIBC.replace(b"2.36.", b"2.28.")}
    assert contents(files).libc_version == (2, 28)


class OneBlob:
    """A store as far as reading goes."""

    def __init__(self, content: bytes, piece: int = 1000) -> None:
        self.content, self.piece = content, piece

    async def open_blob(self, blob: Descriptor) -> AsyncIterator[bytes]:
        for start in range(0, len(self.content), self.piece):
            yield self.content[start : start + self.piece]


TAR = tar_of(debian_files())


@pytest.mark.parametrize(
    ("media_type", "content"),
    [
        (OCI_LAYER, TAR),
        (OCI_LAYER_GZIP, gzip.compress(TAR)),
        (OCI_LAYER_GZIP, gzip.compress(TAR[:700]) + gzip.compress(TAR[700:])),
        (OCI_LAYER_ZSTD, zstandard.compress(TAR)),
        (OCI_LAYER_ZSTD, zstandard.compress(TAR[:700]) + zstandard.compress(TAR[700:])),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", gzip.compress(TAR)),
    ],
)
async def test_layers_are_read_as_they_are_compressed(media_type: str, content: bytes) -> None:
    blob = Descriptor.for_bytes(media_type, content)
    seen: list[tuple[int, int]] = []
    found = await read_layers(OneBlob(content), [blob], lambda *told: seen.append(told))  # type: ignore[arg-type]
    assert found.contents({}).packages == {"pyyaml": "6.0"}
    assert seen[-1] == (len(content), len(content))


@pytest.mark.parametrize(
    "content",
    [b"no gzip at all", gzip.compress(TAR)[:300], gzip.compress(b"no tar" * 500)],
    ids=["no gzip", "cut", "no tar"],
)
async def test_a_damaged_layer_is_named(content: bytes) -> None:
    blob = Descriptor.for_bytes(OCI_LAYER_GZIP, content)
    with pytest.raises(errors.ImageDamaged, match="a layer"):
        await read_layers(OneBlob(content), [blob], lambda done, total: None)  # type: ignore[arg-type]


def header(name: str, kind: bytes, size: int, text: str = "") -> bytes:
    """A member's header that says what it likes, and a text behind it."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT) + text.encode().ljust(-len(text) % 512 + len(text), b"\0")


@pytest.mark.parametrize(
    ("tar", "why"),
    [
        (header("x", b"x", 3 << 30, "0" * 4096), "'x' says that it has 3221225472 bytes"),
        (header("x", b"L", 4 << 30), "'x' says that it has 4294967296 bytes"),
        (header("x", b"0", 1 << 80, "short"), "it ends in the middle of a file|unexpected end of data"),
        (header("x", b"0", -5), "'x' says that it has -5 bytes"),
        (header("x", b"x", 27, "27 GNU.sparse.size=notanum\n"), "invalid literal"),
        (header("x", b"x", 25, "25 GNU.sparse.map=a,b,c\n\n"), "invalid literal"),
    ],
    ids=["attributes", "long name", "never ends", "negative", "sparse size", "sparse map"],
)
def test_a_layer_of_nonsense_is_damaged(tar: bytes, why: str) -> None:
    rest = tar_of({"etc/passwd": "root:"})
    with pytest.raises(errors.ImageDamaged, match=f"a layer is not a tar archive: .*({why})"):
        ContentsReader().read_layer(io.BytesIO(tar + rest))
    with pytest.raises(errors.ImageDamaged, match="a layer is not a tar archive"):
        ContentsReader().read_layer(io.BytesIO(tar))


@pytest.mark.parametrize(
    ("broken", "why"), [(b"\xff" * 512, "bad checksum"), (b"half a header", "truncated header")]
)
def test_a_broken_header_in_the_middle_is_not_the_end(broken: bytes, why: str) -> None:
    first = header("etc/passwd", b"0", 5, "root:")
    whole = tar_of({"usr/bin/python3.11": "elf"}) if len(broken) == 512 else b""
    with pytest.raises(errors.ImageDamaged, match=f"a layer is not a tar archive: .*{why}"):
        ContentsReader().read_layer(io.BytesIO(first + broken + whole))


def test_a_tar_without_an_end_mark_is_whole() -> None:
    reader = ContentsReader()
    reader.read_layer(io.BytesIO(header("etc/passwd", b"0", 5, "root:")))
    assert reader.contents({}).passwd == "root:"


def test_versions_that_no_program_has_are_not_believed() -> None:
    python = "python3." + "9" * 30
    libc = b"GNU C Library x release version " + b"9" * 30 + b".1"
    files: Files = {"usr/bin/python3": f"-> {python}", f"usr/bin/{python}": b"elf", "lib/libc.so.6": libc}
    found = contents(files)
    assert (found.python, found.libc_version) == (None, (0, 0))


def test_a_piece_that_inflates_a_thousandfold_is_read_a_little_at_a_time() -> None:
    pipe = LayerStream(OCI_LAYER_ZSTD)
    pipe.put(zstandard.compress(bytes(64 << 20)))
    pipe.put(b"")
    tracemalloc.start()
    try:
        while pipe.read(1 << 18):
            pass
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
