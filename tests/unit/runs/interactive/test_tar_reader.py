"""Archives of pods, unpacked: whole ones come out as they were, and hostile ones reach nothing outside."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.runs.interactive.tar_reader import TarReader

Member = tuple[tarfile.TarInfo, bytes]


def member(
    name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, to: str = "", mode: int = 0o644
) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, to, mode, len(content)
    return info, content


ROOT = member(".", kind=tarfile.DIRTYPE, mode=0o755)


def archive(*members: Member, form: int = tarfile.GNU_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as made:
        for info, content in members:
            made.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """In a folder of its own, as it is used."""
    (tmp_path / "beside").mkdir()
    return tmp_path / "beside/it"


def unpack(made: Path, data: bytes, step: int = 1 << 16) -> TarReader:
    reader = TarReader(made)
    try:
        for start in range(0, len(data), step):
            reader.feed(data[start : start + step])
        reader.finish()
    finally:
        reader.close()
    return reader


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("step", [1, 700, 1 << 16])
def test_a_folder_comes_out_as_it_was(made: Path, form: int, step: int) -> None:
    deep = "./" + "/".join(["d" * 60] * (2 if form == tarfile.USTAR_FORMAT else 4))
    parents = [deep[: len(deep) - n * 61] for n in reversed(range(deep.count("/")))]
    data = archive(
        ROOT,
        *(member(parent, kind=tarfile.DIRTYPE, mode=0o500) for parent in parents),
        member(f"{deep}/ä", b"x" * 1000, mode=0o750),
        member("./empty", mode=0o4600),
        member("./last", kind=tarfile.SYMTYPE, to=f"{parents[0]}"),
        member("./hard", kind=tarfile.LNKTYPE, to="./empty"),
        form=form,
    )
    reader = unpack(made, data, step)
    assert reader.is_whole and not reader.left_out and reader.done_bytes == 1000
    file = made / deep / "ä"
    assert file.read_bytes() == b"x" * 1000 and stat.S_IMODE(file.stat().st_mode) == 0o750
    assert stat.S_IMODE((made / "empty").stat().st_mode) == 0o600
    assert (made / "last").readlink() == Path(parents[0]) and (made / "hard").samefile(made / "empty")
    assert os.access(made / parents[0], os.W_OK)


def test_a_file_alone_has_its_size_before_its_end(made: Path) -> None:
    data = archive(member("./last.pt", b"y" * 5000))
    reader = TarReader(made)
    reader.feed(data[:1024])
    assert (reader.size, reader.done_bytes, reader.is_whole) == (5000, 512, False)
    reader.feed(data[1024:])
    reader.close()
    assert reader.is_whole and made.read_bytes() == b"y" * 5000


@pytest.mark.parametrize(
    "members",
    [
        [ROOT, member("/etc/x", b"x")],
        [ROOT, member("./../x", b"x")],
        [ROOT, member("a/../../x", b"x")],
        [ROOT, member("./x", kind=tarfile.LNKTYPE, to="../../secret")],
        [ROOT, member("./x", kind=tarfile.LNKTYPE, to="/etc/passwd")],
        [member("a/x", b"x")],
        [member("x", b"x"), member("y", b"y")],
    ],
)
def test_what_names_a_place_outside_is_refused(made: Path, members: list[Member]) -> None:
    with pytest.raises(errors.GpuyardError, match="can't be unpacked"):
        unpack(made, archive(*members))
    assert {path.name for path in made.parent.parent.iterdir()} == {"beside"}


@pytest.mark.parametrize("to", ["/etc", "..", "../..", "sub/../..", "sub/.."])
def test_a_link_that_may_lead_out_is_left_out_and_nothing_is_written_through_links(
    made: Path, to: str
) -> None:
    link = member("./out", kind=tarfile.SYMTYPE, to=to)
    reader = unpack(made, archive(ROOT, link, member("./sub", kind=tarfile.DIRTYPE)))
    assert len(reader.left_out) == 1 and not (made / "out").is_symlink()


def folder(name: str) -> Member:
    return member(name, kind=tarfile.DIRTYPE, mode=0o755)


def link(name: str, to: str) -> Member:
    return member(name, kind=tarfile.SYMTYPE, to=to)


def hard_link(name: str, to: str) -> Member:
    return member(name, kind=tarfile.LNKTYPE, to=to)


DEEP = [folder("./" + "/".join("d" * depth)) for depth in range(1, 9)]
UP = "../" * 8


@pytest.mark.parametrize(
    "through",
    [
        [link("./d/d/d/d/d/d/d/d/f/out", UP + "..")],
        [link("./d/d/d/d/d/d/d/d/f/g/h", UP + "../.."), link("./d/d/d/d/d/d/d/d/f/g/h/x", "y")],
        [folder("./d/d/d/d/d/d/d/d/f/g/h")],
        [member("./d/d/d/d/d/d/d/d/f/g/h", b"written")],
        [hard_link("./d/d/d/d/d/d/d/d/f/g/h", "./file")],
        [hard_link("./h", "./d/d/d/d/d/d/d/d/f/file")],
        [link("./g/h/i/j", "../../.."), member("./g/h/i/j/x", b"written")],
    ],
    ids=["link", "chain", "folder", "file", "hard link", "hard link to", "no folder"],
)
def test_nothing_is_made_through_a_link_of_the_archive(made: Path, through: list[Member]) -> None:
    known = [ROOT, folder("./g"), member("./file", b"x"), *DEEP, link(f"{DEEP[-1][0].name}/f", UP)]
    reader = unpack(made, archive(*known, *through, member("./after", b"z")))
    assert len(reader.left_out) == len(through) and not list((made / "g").iterdir())
    assert {path.name for path in made.iterdir()} == {"g", "file", "d", "after"}
    assert {path.name for path in made.parent.parent.rglob("*")} == {
        "beside",
        "it",
        "g",
        "file",
        "d",
        "f",
        "after",
    }
    assert (made / "after").read_bytes() == b"z" and (made / "file").stat().st_nlink == 1


def test_a_hard_link_to_a_link_is_the_same_link(made: Path) -> None:
    first, second = link("./sub/a", "../x"), hard_link("./sub/b", "./sub/a")
    lost = [link("./out", "/etc/passwd"), hard_link("./same", "./out"), hard_link("./up", "./sub/a")]
    reader = unpack(made, archive(ROOT, folder("./sub"), first, second, member("./x", b"x"), *lost))
    assert (made / "sub/b").readlink() == Path("../x")
    assert [note.split(":")[0] for note in reader.left_out] == ["./out", "./same", "./up"]
    assert {path.name for path in made.iterdir()} == {"sub", "x"}


def test_of_many_that_are_left_out_some_are_named_and_the_rest_is_counted(made: Path) -> None:
    fifos = [member(f"./{number}" + "x" * 5000, kind=tarfile.FIFOTYPE) for number in range(250)]
    reader = unpack(made, archive(ROOT, *fifos))
    assert [note[:3] for note in reader.left_out[:2]] == ["./0", "./1"]
    assert (len(reader.left_out), reader.left_out[-1]) == (101, "150 more")
    assert max(map(len, reader.left_out)) < 2100


def test_devices_are_left_out(made: Path) -> None:
    reader = unpack(made, archive(ROOT, member("./fifo", kind=tarfile.FIFOTYPE), member("./x", b"x")))
    assert [note.split(":")[0] for note in reader.left_out] == ["./fifo"]
    assert [path.name for path in made.iterdir()] == ["x"]


def _long_words(data: bytearray) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    data[:512] = info.tobuf(tarfile.GNU_FORMAT)


def _negative(data: bytearray) -> None:
    data[124:136] = b"\xff" * 11 + b"\0"
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])


@pytest.mark.parametrize("spoil", [lambda data: data.__setitem__(3, 7), _long_words, _negative])
def test_what_is_no_archive_is_refused(made: Path, spoil: Callable[[bytearray], None]) -> None:
    data = bytearray(archive(member("x", b"x")))
    spoil(data)
    with pytest.raises(errors.GpuyardError, match="can't be unpacked"):
        unpack(made, bytes(data))


def record(key: str, value: str) -> bytes:
    """Of an extended header; its length is the first thing in it."""
    text = f" {key}={value}\n".encode()
    length = len(text) + 1
    while len(str(length)) + len(text) != length:
        length += 1
    return str(length).encode() + text


@pytest.mark.parametrize(
    "words",
    [
        b"5 a=b\n",
        b"99 path=x\n",
        b"x path=x\n",
        "²8 path=x\n".encode(),
        record("size", "huge"),
        record("size", "²"),
        record("size", "9" * 5000),
        record("size", "-1"),
        record("path", "a\0b"),
        record("linkpath", "a\0b"),
        b"9" * 5000 + b" path=x\n",
    ],
    ids=lambda words: repr(words[:16]),
)
def test_broken_extended_headers_are_refused(made: Path, words: bytes) -> None:
    pax = member("x", words, kind=tarfile.XHDTYPE)
    with pytest.raises(errors.GpuyardError, match="can't be unpacked"):
        unpack(made, archive(ROOT, pax, member("x", kind=tarfile.SYMTYPE, to="y")))
