from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuyard import errors
from gpuyard.building.workdir import secret_contents
from gpuyard.building.workdir.secret_contents import SecretFound
from gpuyard.building.workdir.secret_search import MOST_BYTES, SecretSearch, refuse_secret_values
from gpuyard.images.cache import Cache
from tests.unit.building.workdir.test_secret_contents import SECRETS, checked


def search(root: Path, *allowed: str, cache: Cache | None = None, now_ns: int = 1 << 62) -> list[str]:
    files = sorted(
        (path.relative_to(root).as_posix(), path.lstat()) for path in root.rglob("*") if not path.is_dir()
    )
    return SecretSearch(root, allowed, cache, now_ns=lambda: now_ns).warnings(files)


def write(root: Path, path: str, text: str = "x") -> Path:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
    return root / path


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An empty workdir."""
    folder = tmp_path / "app"
    folder.mkdir()
    return folder


@pytest.fixture
def looked_into(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was looked into."""
    seen: list[bytes] = []
    real = secret_contents.find_secrets

    def find(text: bytes, *, one_of_many: bool) -> list[SecretFound]:
        seen.append(text)
        return real(text, one_of_many=one_of_many)

    monkeypatch.setattr(secret_contents, "find_secrets", find)
    return seen


def test_what_is_found_is_told_with_its_place_and_not_given_away(app: Path) -> None:
    token = checked("ghp")
    write(app, "conf/deploy.py", f"import os\nTOKEN = {token!r}\n")
    write(app, "notes.ipynb", '{"cells": ["' + SECRETS["a token of Hugging Face"].replace('"', "'") + '"]}')
    write(app, ".env")
    with pytest.raises(errors.UsageError) as caught:
        search(app)
    assert caught.value.message == (
        "the image would hold what looks like secrets:\n"
        "  .env (by its name)\n"
        f"  conf/deploy.py:2: a token of GitHub ({token[:8]}…)\n"
        "  notes.ipynb:1: a token of Hugging Face (hf_" + SECRETS["a token of Hugging Face"][13:15] + "…)"
    )
    assert caught.value.remedy == "list them in .gpuyardignore, or build with --allow-secret .env"


def test_ten_are_told(app: Path) -> None:
    for number in range(13):
        write(app, f"{number:02}.env")
    with pytest.raises(errors.UsageError) as caught:
        search(app)
    assert caught.value.message.endswith("  09.env (by its name)\n  and 3 more")


@pytest.mark.parametrize(
    "allowed",
    [
        "conf/keys/a.txt",
        "./conf/keys/a.txt",
        "a.txt",
        "*.txt",
        "conf/*/a.txt",
        "conf/keys",
        "conf/",
        "conf/*",
    ],
)
def test_what_is_allowed_goes_in(app: Path, allowed: str) -> None:
    write(app, "conf/keys/a.txt", SECRETS["a token of Slack"])
    assert search(app, allowed) == []


@pytest.mark.parametrize("allowed", ["b.txt", "con", "keys/a.txt", "keys", "A.TXT"])
def test_what_is_allowed_in_vain_is_said(app: Path, allowed: str) -> None:
    write(app, "conf/keys/a.txt", SECRETS["a token of Slack"])
    with pytest.raises(errors.UsageError):
        search(app, allowed)
    assert search(app, allowed, "a.txt") == [
        f"no file that looks like a secret matches {allowed}, which is allowed"
    ]


def test_large_files_and_those_that_are_no_text_are_not_looked_into(app: Path) -> None:
    token = SECRETS["a token of Slack"]
    write(app, "large.txt", token + "\n" * MOST_BYTES)
    (app / "model.bin").write_bytes(b"\0\1" + token.encode())
    (app / "link").symlink_to("large.txt")
    assert search(app) == []
    write(app, "large.ipynb", " " * MOST_BYTES + token)
    with pytest.raises(errors.UsageError, match=r"large\.ipynb:1"):
        search(app)


def test_what_cannot_be_read_is_the_packings_to_tell(app: Path) -> None:
    os.mkfifo(app / "pipe")
    files = [("gone", write(app, "gone").stat()), ("pipe", (app / "gone").stat())]
    (app / "gone").unlink()
    assert SecretSearch(app, ()).warnings(files) == []


def test_what_held_none_is_not_looked_into_again(app: Path, tmp_path: Path, looked_into: list[bytes]) -> None:
    cache = Cache(tmp_path / "cache")
    for path in ("a.py", "b.py", "latin-\udce9.txt"):
        write(app, path, path if path.isascii() else "latin")
    assert search(app, cache=cache) == []
    # Now the file system's clock is surely past what it says of them.
    search(app, cache=cache)
    looked_into.clear()
    assert search(app, cache=cache) == []
    assert looked_into == []
    write(app, "b.py", SECRETS["a token of Slack"])
    with pytest.raises(errors.UsageError, match=r"b\.py:1"):
        search(app, cache=cache)
    assert len(looked_into) == 1


@pytest.mark.parametrize("change", ["same size and mtime", "replaced", "clock", "format"])
def test_what_may_have_changed_is_looked_into(
    app: Path, tmp_path: Path, looked_into: list[bytes], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    cache = Cache(tmp_path / "cache")
    secret = SECRETS["a token of Slack"]
    write(app, "a.py", "x" * len(secret))
    state = (app / "a.py").stat()
    for _ in range(2):
        search(app, cache=cache)
    looked_into.clear()
    if change == "same size and mtime":
        write(app, "a.py", secret)
    elif change == "replaced":
        write(app, "b", secret).replace(app / "a.py")
    os.utime(app / "a.py", ns=(state.st_atime_ns, state.st_mtime_ns))
    if change == "format":
        monkeypatch.setattr("gpuyard.building.workdir.secret_search._FORMAT", 0)
    if change in ("clock", "format"):
        assert search(app, cache=cache, now_ns=0 if change == "clock" else 1 << 62) == []
    else:
        with pytest.raises(errors.UsageError, match=r"a\.py:1"):
            search(app, cache=cache)
    assert len(looked_into) == 1


def test_where_nothing_can_be_remembered_it_is_looked_for_again(
    app: Path, tmp_path: Path, looked_into: list[bytes]
) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache")
    write(app, "a.py")
    for count in (1, 2):
        assert search(app, cache=cache) == []
        assert len(looked_into) == count


def test_what_has_a_secret_is_never_remembered_as_harmless(app: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    write(app, "a.py", SECRETS["a token of Slack"])
    for _ in range(3):
        assert search(app, "a.py", cache=cache) == []
    with pytest.raises(errors.UsageError):
        search(app, cache=cache)


def test_what_the_images_config_would_tell_is_refused() -> None:
    refuse_secret_values({"the variable A": "A=b", "the command": ""})
    token = checked("ghp")
    with pytest.raises(errors.UsageError) as caught:
        refuse_secret_values({"the variable A": "A=b", "the variable GH": f"GH={token}"})
    assert caught.value.message == (
        f"the image would hold what looks like a secret: the variable GH has a token of GitHub ({token[:8]}…)"
    )


def test_one_is_found_among_many(app: Path) -> None:
    for number in range(120):
        write(app, f"{number:03}.py", f"print({number})\n")
    write(app, "110.py", SECRETS["a token of Slack"])
    with pytest.raises(errors.UsageError, match=r"110\.py:1: a token of Slack"):
        search(app)


KEY = SECRETS["a token of Hugging Face"]


@pytest.mark.parametrize(
    "content",
    [
        KEY.encode("utf-16"),
        KEY.encode("utf-16-be"),
        KEY.encode("utf-16-le"),
        f"é 例\n{KEY}".encode("utf-16"),
        b"\0" + KEY.encode(),
        KEY.encode() + bytes(100),
    ],
)
def test_texts_with_nul_bytes_are_looked_into(app: Path, content: bytes) -> None:
    (app / "notes.txt").write_bytes(content)
    with pytest.raises(errors.UsageError, match=r"notes\.txt:\d: a token of Hugging Face"):
        search(app)


def test_a_private_key_in_utf_16_is_one_by_its_name(app: Path) -> None:
    (app / "server.key").write_bytes("-----BEGIN PRIVATE KEY-----".encode("utf-16-le"))
    with pytest.raises(errors.UsageError, match=r"server\.key"):
        search(app)


def test_byte_code_is_none_by_its_name(app: Path) -> None:
    (app / "kubeconfig.cpython-311.pyc").write_bytes(b"\x01\0\x02")
    assert search(app) == []
