from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.application import LARGE_BYTES, read_application
from gpuyard.images.layers import tar_pieces


def write(root: Path, *paths: str, text: str = "x") -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def found(root: Path, **options: tuple[str, ...]) -> list[str]:
    return [path for path, _ in read_application(root, **options).files]


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
    os.mkfifo(tmp_path / "pipe")
    assert found(tmp_path) == ["a.py"]


@pytest.mark.parametrize(
    "name",
    [".env", "conf/.env.production", "id_rsa", ".ssh/id_ed25519", "kubeconfig", "dev.kubeconfig",
     "kubeconfig.yaml", "id_ed25519_sk", ".netrc", ".aws/credentials", ".docker/config.json", "cert.p12",
     "Kubeconfig"],
)  # fmt: skip
def test_what_looks_like_a_secret_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, "a.py", name)
    with pytest.raises(errors.UsageError) as caught:
        read_application(tmp_path)
    assert name in caught.value.message
    assert "--allow-secrets" in caught.value.remedy
    assert name in found(tmp_path, allow_secrets=(name,))
    assert name in found(tmp_path, allow_secrets=(name.rpartition("/")[2],))


def test_a_key_file_is_refused_for_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path, "ca.pem", text="-----BEGIN CERTIFICATE-----")
    assert found(tmp_path) == ["ca.pem"]
    write(tmp_path, "server.key", text="-----BEGIN RSA PRIVATE KEY-----")
    with pytest.raises(errors.UsageError, match=r"server\.key"):
        read_application(tmp_path)


@pytest.mark.parametrize("name", [".env.example", "environment.yml", "tokens.py", "kube.py", "env.py"])
def test_what_only_resembles_a_secret_is_taken(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    assert found(tmp_path) == [name]


def test_an_ignored_secret_is_no_matter(tmp_path: Path) -> None:
    write(tmp_path, ".env", "a.py")
    write(tmp_path, ".gpuyardignore", text=".env\n")
    assert found(tmp_path) == [".gpuyardignore", "a.py"]


def test_large_files_are_named_largest_first(tmp_path: Path) -> None:
    for name, size in (("small", 10), ("big.bin", LARGE_BYTES + 1), ("sub/bigger.bin", 3 * LARGE_BYTES)):
        write(tmp_path, name)
        os.truncate(tmp_path / name, size)
    (warning,) = read_application(tmp_path).warnings
    assert "sub/bigger.bin (150 MB), big.bin (50 MB)" in warning
    assert "small" not in warning


def test_links_stay_links_and_those_that_lead_out_stay_out(tmp_path: Path) -> None:
    write(tmp_path, "data/real.txt")
    (tmp_path / "inside").symlink_to("data/real.txt")
    (tmp_path / "data" / "up").symlink_to("../inside")
    (tmp_path / "outside").symlink_to("../../etc/passwd")
    (tmp_path / "absolute").symlink_to("/etc/passwd")
    (tmp_path / "data" / "own").symlink_to(tmp_path / "inside")
    application = read_application(tmp_path)
    assert [path for path, _ in application.files] == ["data/real.txt", "data/up", "inside"]
    assert sorted(application.warnings) == [
        "absolute is a link to /etc/passwd, outside the workdir: it is left out",
        f"data/own is a link to {tmp_path}/inside, which the image has elsewhere "
        "(make it relative: ln -sfn ../inside data/own): it is left out",
        "outside is a link to ../../etc/passwd, outside the workdir: it is left out",
    ]
    targets = {entry.path: entry.target for entry in application.entries("/w", 1000)}
    assert targets["w/inside"] == "data/real.txt"


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.UsageError, match="nowhere"):
        read_application(tmp_path / "nowhere")


def test_ignore_files_that_are_none_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".gitignore")
    with pytest.raises(errors.UsageError, match=r"can't read .*\.gitignore: it isn't a regular file"):
        read_application(tmp_path)


def test_a_pattern_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, ".gpuyardignore", text="[z-a]\n")
    with pytest.raises(errors.UsageError, match=r"\.gpuyardignore has a pattern that can't be read"):
        read_application(tmp_path)


def test_folders_without_an_end_are_refused(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(250):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    with pytest.raises(errors.UsageError, match="more than 200 folders in each other"):
        read_application(tmp_path)
    write(tmp_path, ".gpuyardignore", text="d/\n")
    assert found(tmp_path) == [".gpuyardignore"]


@pytest.mark.parametrize("now", ["gone", "link", "pipe", "folder"])
@pytest.mark.parametrize("was", ["file", "link"])
def test_what_changes_while_it_is_packed_is_said(tmp_path: Path, was: str, now: str) -> None:
    if was == now:
        return
    path = tmp_path / "x"
    path.symlink_to("other") if was == "link" else path.write_text("content")
    entries = read_application(tmp_path).entries("/workspace", 0)
    path.unlink()
    if now == "link":
        path.symlink_to("/etc/passwd")
    elif now == "pipe":
        os.mkfifo(path)
    elif now == "folder":
        path.mkdir()
    with pytest.raises(errors.BuildError, match=r"changed while|was to have"):
        b"".join(tar_pieces(entries, 0))
