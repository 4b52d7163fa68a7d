from __future__ import annotations

import io
import os
import socket
import tarfile
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.workdir.application import LARGE_BYTES, read_application
from gpuyard.images.layers import PIECE, tar_pieces, with_parents


def write(root: Path, *paths: str, text: str = "x") -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def found(root: Path, *, allow: tuple[str, ...] = ()) -> list[str]:
    return [path for path, _ in read_application(root, os.environ, allow_secrets=allow).files]


def test_files_are_sorted_by_path(tmp_path: Path) -> None:
    write(tmp_path, "b.py", "a/z.py", "a.py", "a/b/c.py")
    assert found(tmp_path) == ["a.py", "a/b/c.py", "a/z.py", "b.py"]


@pytest.mark.parametrize(
    ("ignore", "kept"),
    [
        ("*.log\n", ["a.py", "data/keep.bin", "data/x.bin", "sub/data/y.bin"]),
        ("data/\n", ["a.log", "a.py", "sub/b.log"]),
        ("/data/\n", ["a.log", "a.py", "sub/b.log", "sub/data/y.bin"]),
        (
            "data/*\n!data/keep.bin\n",
            ["a.log", "a.py", "data/keep.bin", "sub/b.log", "sub/data/y.bin"],
        ),
        ("*.bin\n!keep.bin\n", ["a.log", "a.py", "data/keep.bin", "sub/b.log"]),
        ("# a comment\n\nsub/**\n", ["a.log", "a.py", "data/keep.bin", "data/x.bin"]),
        # git can't take back a file whose folder is ignored.
        ("data/\n!data/keep.bin\n", ["a.log", "a.py", "sub/b.log"]),
    ],
)
@pytest.mark.parametrize("name", [".gitignore", ".gpuyardignore"])
def test_ignore_files_mean_what_git_means(tmp_path: Path, name: str, ignore: str, kept: list[str]) -> None:
    write(tmp_path, "a.py", "a.log", "data/x.bin", "data/keep.bin", "sub/b.log", "sub/data/y.bin")
    (tmp_path / name).write_text(ignore)
    assert [path for path in found(tmp_path) if path != name] == kept


def test_a_nested_ignore_file_rules_its_own_folder(tmp_path: Path) -> None:
    write(tmp_path, "x.txt", "sub/x.txt", "sub/deep/x.txt", "sub/y.txt")
    write(tmp_path, ".gitignore", text="*.txt\n")
    write(tmp_path, "sub/.gitignore", text="!x.txt\n/deep/\n")
    assert found(tmp_path) == [".gitignore", "sub/.gitignore", "sub/x.txt"]


def test_ours_wins_over_gits(tmp_path: Path) -> None:
    write(tmp_path, "weights.bin", ".gitignore", text="*.bin\n")
    (tmp_path / ".gpuyardignore").write_text("!weights.bin\n.g*\n")
    assert found(tmp_path) == ["weights.bin"]


def test_the_repositorys_rules_above_the_workdir_hold(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    write(tmp_path, ".gitignore", text="*.log\n/app/skip/\n")
    write(tmp_path, "app/a.log", "app/a.py", "app/skip/b.py", "app/sub/skip/c.py")
    assert found(tmp_path / "app") == ["a.py", "sub/skip/c.py"]


def test_what_never_belongs_into_an_image(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "__pycache__/a.cpython-311.pyc", ".git/HEAD", "b.pyc")
    write(tmp_path, "env/pyvenv.cfg", "env/bin/python", "images/oci-layout", "images/blobs/x")
    assert found(tmp_path) == ["a.py"]


def members(root: Path) -> dict[str, tuple[tarfile.TarInfo, bytes | None]]:
    """What an image would have below /w."""
    tar = b"".join(tar_pieces(with_parents(read_application(root, os.environ).entries("/w", 1000)), 0))
    with tarfile.open(fileobj=io.BytesIO(tar), errors="surrogateescape") as opened:
        return {
            info.name.removeprefix("w").removeprefix("/"): (info, file.read() if file else None)
            for info in opened
            for file in [opened.extractfile(info) if info.isfile() else None]
        }


def test_all_belongs_to_the_images_user_who_alone_may_write_it(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "pkg/run.sh", "pkg/private", "pkg/set", "pkg/open")
    for name, mode in (("run.sh", 0o700), ("private", 0o400), ("set", 0o6755), ("open", 0o666)):
        (tmp_path / "pkg" / name).chmod(mode)
    (tmp_path / "pkg").chmod(0o2777)
    (tmp_path / "link").symlink_to("a.py")
    found = members(tmp_path)
    assert {(info.uid, info.gid) for info, _ in found.values()} == {(1000, 1000)}
    assert {name: oct(info.mode) for name, (info, _) in found.items()} == {
        "": "0o755", "a.py": "0o644", "link": "0o777", "pkg": "0o755", "pkg/open": "0o644",
        "pkg/private": "0o644", "pkg/run.sh": "0o755", "pkg/set": "0o755",
    }  # fmt: skip


def test_empty_folders_go_in_but_those_that_only_byte_code_is_left_of(tmp_path: Path) -> None:
    write(
        tmp_path,
        "removed/inner/__pycache__/a.cpython-311.pyc",
        "logs/a.log",
        ".gitignore",
        text="*.log\nwandb/\n",
    )
    for folder in ("outputs", "checkpoints/best", "wandb", ".venv"):
        (tmp_path / folder).mkdir(parents=True)
    write(tmp_path, ".venv/pyvenv.cfg")
    application = read_application(tmp_path, os.environ)
    assert application.folders == ("checkpoints", "checkpoints/best", "logs", "outputs")
    assert dict(application.left_out) == {
        ".venv/": "it is a virtual environment",
        "logs/a.log": ".gitignore:1: *.log",
        "removed/inner/__pycache__/": "never goes into an image",
        "wandb/": ".gitignore:2: wandb/",
    }


def test_some_of_the_files_come_with_their_folders_alone(tmp_path: Path) -> None:
    write(tmp_path, "a/b/c", "a/d", "e/f")
    (tmp_path / "empty").mkdir()
    application = read_application(tmp_path, os.environ)
    assert application.only(["a/b/c"]).folders == ("a", "a/b")
    assert application.without(["a/b/c"]).folders == ("a", "a/b", "e", "empty")


def test_what_is_no_file_is_said_and_left_out(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "sock"))
    application = read_application(tmp_path, os.environ)
    assert [path for path, _ in application.files] == ["a.py"]
    assert application.warnings == (
        "pipe is a named pipe: it is left out",
        "sock is a socket: it is left out",
    )


def test_names_and_files_of_all_kinds_arrive_as_they_are(tmp_path: Path) -> None:
    odd = [
        "latin-\udce9.txt",
        "n" * 255,
        f"{'d' * 200}/{'e' * 200}.py",
        "new\nline",
        "\u4e2d\u6587",
        "-rf",
        " ",
    ]
    write(tmp_path, *odd, text="content")
    os.link(tmp_path / "-rf", tmp_path / "hard")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(3_000_000)
    found = members(tmp_path)
    assert [found[name][1] for name in (*odd, "hard")] == [b"content"] * (len(odd) + 1)
    # A file of its own: to write one of the two mustn't change the other where the user didn't want it.
    assert found["hard"][0].isreg()
    assert found["sparse"][1] == bytes(3_000_000)


def test_a_file_that_is_written_while_it_is_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(3 * PIECE))
    (entry,) = [e for e in read_application(tmp_path, os.environ).entries("/w", 0) if e.content]
    assert entry.content
    pieces = iter(entry.content())
    next(pieces)
    with (tmp_path / "weights").open("r+b") as file:
        file.write(b"x")
    os.utime(tmp_path / "weights", ns=(1, 1))
    with pytest.raises(
        errors.BuildError, match=r"weights changed while .*: it was written while it was read"
    ):
        list(pieces)


def test_a_workdir_of_which_nothing_goes_in_is_said(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    (tmp_path / ".gpuyardignore").write_text("*\n")
    (warning,) = read_application(tmp_path, os.environ).warnings
    assert warning == f"no file of {tmp_path} goes into the image: ignore files name all of them"


def test_an_ignored_secret_is_no_matter(tmp_path: Path) -> None:
    write(tmp_path, ".env", "a.py")
    write(tmp_path, ".gpuyardignore", text=".env\n")
    assert found(tmp_path) == [".gpuyardignore", "a.py"]


def test_large_files_are_named_largest_first(tmp_path: Path) -> None:
    for name, size in (("small", 10), ("big.bin", LARGE_BYTES + 1), ("sub/bigger.bin", 3 * LARGE_BYTES)):
        write(tmp_path, name)
        os.truncate(tmp_path / name, size)
    (notice,) = read_application(tmp_path, os.environ).notices
    assert "sub/bigger.bin (150 MB), big.bin (50 MB)" in notice
    assert "small" not in notice


def test_links_stay_links_and_those_that_lead_out_stay_out(tmp_path: Path) -> None:
    write(tmp_path, "data/real.txt")
    (tmp_path / "inside").symlink_to("data/real.txt")
    (tmp_path / "data" / "up").symlink_to("../inside")
    (tmp_path / "outside").symlink_to("../../etc/passwd")
    (tmp_path / "absolute").symlink_to("/etc/passwd")
    (tmp_path / "data" / "own").symlink_to(tmp_path / "inside")
    application = read_application(tmp_path, os.environ)
    assert [path for path, _ in application.files] == ["data/real.txt", "data/up", "inside"]
    assert sorted(application.warnings) == [
        "absolute is a link to /etc/passwd, outside the workdir: it is left out",
        f"data/own is a link to {tmp_path}/inside, which the image has elsewhere "
        "(make it relative: ln -sfn ../inside data/own): it is left out",
        "outside is a link to ../../etc/passwd, outside the workdir: it is left out",
    ]
    targets = {entry.path: entry.target for entry in application.entries("/w", 1000)}
    assert targets["w/inside"] == "data/real.txt"


def test_names_may_begin_with_dots(tmp_path: Path) -> None:
    # As Kubernetes lays out a volume of a ConfigMap.
    write(tmp_path, "..2026_11_29/config", "...")
    (tmp_path / "..data").symlink_to("..2026_11_29")
    (tmp_path / "config").symlink_to("..data/config")
    application = read_application(tmp_path, os.environ)
    assert [path for path, _ in application.files] == ["...", "..2026_11_29/config", "..data", "config"]
    assert not application.warnings


def test_of_many_links_that_lead_out_some_are_named(tmp_path: Path) -> None:
    for number in range(13):
        (tmp_path / f"{number:02}").symlink_to("/data/x")
    *named, last = read_application(tmp_path, os.environ).warnings[:11]
    assert [warning[:2] for warning in named] == [f"{number:02}" for number in range(10)]
    assert last == "3 more are left out: see `gpuyard build --list --ignored`"


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="nowhere"):
        read_application(tmp_path / "nowhere", os.environ)


def test_ignore_files_that_are_none_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".gitignore")
    with pytest.raises(errors.UsageError, match=r"can't read .*\.gitignore: it isn't a regular file"):
        read_application(tmp_path, os.environ)


def test_folders_without_an_end_are_refused(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(250):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    with pytest.raises(errors.UsageError, match="more than 200 folders in each other"):
        read_application(tmp_path, os.environ)
    write(tmp_path, ".gpuyardignore", text="d/\n")
    assert found(tmp_path) == [".gpuyardignore"]


@pytest.mark.parametrize("now", ["gone", "link", "pipe", "folder"])
@pytest.mark.parametrize("was", ["file", "link"])
def test_what_changes_while_it_is_packed_is_said(tmp_path: Path, was: str, now: str) -> None:
    if was == now:
        return
    path = tmp_path / "x"
    path.symlink_to("other") if was == "link" else path.write_text("content")
    entries = read_application(tmp_path, os.environ).entries("/workspace", 0)
    path.unlink()
    if now == "link":
        path.symlink_to("/etc/passwd")
    elif now == "pipe":
        os.mkfifo(path)
    elif now == "folder":
        path.mkdir()
    with pytest.raises(errors.BuildError, match=r"changed while|was to have"):
        b"".join(tar_pieces(entries, 0))
