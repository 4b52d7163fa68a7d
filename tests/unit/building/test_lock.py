from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuyard import errors
from gpuyard.building.lock import Lock, PlatformLock, read_lock, requirements_digest, write_lock
from gpuyard.building.python.wheels import Wheel
from gpuyard.images.oci import Digest

DIGEST = Digest("sha256:" + "a" * 64)
names = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)
wheels = st.builds(
    lambda name, version, sha, size: Wheel(f"{name}-{version}-py3-none-any.whl", sha, size),
    names,
    st.from_regex(r"[0-9]{1,3}\.[0-9]{1,3}(\+cu[0-9]{3})?", fullmatch=True),
    st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    st.integers(0, 2**40),
)
text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)
platforms = st.builds(
    PlatformLock,
    st.just(DIGEST),
    st.sampled_from(["", "3.11"]),
    st.dictionaries(names, text, max_size=3),
    st.lists(wheels, max_size=4, unique=True).map(lambda found: tuple(sorted(found))),
)


@given(st.builds(Lock, text, st.just(DIGEST), text, st.dictionaries(names, platforms, max_size=3)))
def test_a_lock_that_was_written_reads_the_same(tmp_path_factory: pytest.TempPathFactory, lock: Lock) -> None:
    path = tmp_path_factory.mktemp("lock") / "gpuyard.lock"
    write_lock(path, lock)
    found = read_lock(path)
    assert found == lock
    assert found is not None and found.to_text() == path.read_text()


def test_no_lock_is_none(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "gpuyard.lock") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("not toml [", "can't be read as a lock"),
        ("version = 1\n", "'base' is missing"),
        ('version = 2\nbase = "x"\n', "is of version 2"),
        ('version = 1\nbase = "x"\nbase-digest = "sha256:1"\nrequirements = ""\n', "not a sha256 digest"),
        (
            f'version = 1\nbase = "x"\nbase-digest = "{DIGEST}"\nrequirements = ""\n'
            f'[[platform]]\nname = "p"\n'
            f'base-digest = "{DIGEST}"\nwheels = [{{ file = "a-1-py3-none-any.whl", size = 1 }}]\n',
            "a-1-py3-none-any.whl has no sha256 hash",
        ),
    ],
)
def test_what_is_wrong_with_a_lock_is_said(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "gpuyard.lock"
    path.write_text(content)
    with pytest.raises(errors.UsageError, match=words) as caught:
        read_lock(path)
    assert "gpuyard.lock" in caught.value.message
    assert caught.value.remedy


def test_texts_that_are_cut_elsewhere_have_other_digests() -> None:
    assert requirements_digest([b"ab", b"c"]) != requirements_digest([b"a", b"bc"])


@pytest.mark.parametrize(
    "platform",
    [
        'wheels = [{ file = "a-1-py3-none-any.whl", sha256 = "%s", size = "x" }]' % ("a" * 64),
        'from-base = ["a"]',
    ],
)
def test_a_platform_of_nonsense_is_no_lock(tmp_path: Path, platform: str) -> None:
    path = tmp_path / "gpuyard.lock"
    head = f'version = 1\nbase = "x"\nbase-digest = "{DIGEST}"\nrequirements = ""\n'
    path.write_text(f'{head}[[platform]]\nname = "linux/amd64"\nbase-digest = "{DIGEST}"\n{platform}\n')
    with pytest.raises(errors.UsageError, match="can't be read as a lock"):
        read_lock(path)
